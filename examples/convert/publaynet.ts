/** PubLayNet samples: page images and their COCO annotations. The pages have regions (text, title, list, table, figure) and no words. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Region } from "../../runtime/index.ts";
import { rounded, toFrame } from "../../plugins/data-loader/index.ts";
import type { SourcePage } from "./page.ts";

interface Coco {
  images: { id: number; file_name: string; width: number; height: number }[];
  annotations: { image_id: number; category_id: number; bbox: [number, number, number, number] }[];
  categories: { id: number; name: string }[];
}

/** `wanted`: stems of file names, all when empty. */
export function readPubLayNet(folder: string, wanted: readonly string[]): SourcePage[] {
  const coco = JSON.parse(readFileSync(join(folder, "samples.json"), "utf8")) as Coco;
  const names = new Map(coco.categories.map(({ id, name }) => [id, name]));
  return coco.images
    .map((image) => ({ ...image, key: image.file_name.replace(/\.\w+$/, "") }))
    .filter(({ key }) => wanted.length === 0 || wanted.includes(key))
    .sort((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ id, file_name, key, width, height }) => {
      const regions: Region[] = coco.annotations.filter((a) => a.image_id === id).map(({ bbox: [x, y, w, h], category_id }) => ({
        label: names.get(category_id) ?? `category ${category_id}`, box: rounded(toFrame([x, y, x + w, y + h], width, height).box),
      }));
      const [article, page] = key.split("_");
      return {
        key, group: article, image: readFileSync(join(folder, "images", file_name)),
        record: {
          docId: article, page: Number(page), source: "publaynet", origSize: [width, height] as const, words: [], lines: [], regions,
          meta: { licence: "annotations CDLA-Permissive-1.0; image: licence of the article, PMC Open Access", noText: true },
        },
      };
    });
}
