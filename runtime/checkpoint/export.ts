import { RuntimeError, nearest } from "../errors.ts";
import { familyOf } from "./families/index.ts";
import type { Config, Dialect } from "./families/family.ts";
import { movedBack, movedShape, rowsOf } from "./families/moves.ts";
import { theirNames } from "./families/name-map.ts";
import { bytesOf, fromFloat32, pieces, readStored, type StoredDType, type StoredEntry, type TensorSource, toFloat32 } from "./stored.ts";
import type { WritableTensor } from "./safetensors.ts";

export interface ExportRequest {
  /** Parameters under our full names. */
  source: TensorSource;
  /** kind/name of the component, and its complete options. */
  use: string;
  options: Config;
  /** One of the family's dialects; default hugging-face where the family has it, else the first. */
  dialect?: string;
  /** Of the floats written; default: as stored. */
  dtype?: StoredDType;
}

export interface ExportPlan {
  family: string;
  dialect: string;
  tensors: ReadonlyMap<string, WritableTensor>;
  config: Config;
  /** Parameters of the component that this format has no name for. */
  left: string[];
}

/** The tensors of one component under a family's names. Throws ERR_INPUT for an unknown dialect or a component without a family, ERR_CHECKPOINT when nothing is there to export. */
export function planExport({ source, use, options, dialect: wanted, dtype }: ExportRequest): ExportPlan {
  const family = familyOf(use);
  const dialect = dialectOf(family.dialects, wanted);
  const prefix = family.targets[use];
  const heads = { heads: options.heads as number | undefined, kvHeads: options.kv_heads as number | undefined };
  const tensors = new Map<string, WritableTensor>(), left: string[] = [];
  for (const name of source.names.filter((each) => each.startsWith(prefix))) {
    const known = theirNames(name.slice(prefix.length), dialect);
    if (!known) {
      left.push(name);
      continue;
    }
    const entry = source.entry(name)!;
    const rows = known.names.length;
    known.names.forEach((theirs, index) => {
      const shape = movedShape(rows === 1 ? entry.shape : [entry.shape[0] / rows, ...entry.shape.slice(1)], known.rule.move);
      const part = { dtype: dtypeOf(entry, dtype), shape };
      const whole = rows === 1 && known.rule.move === undefined;
      tensors.set(theirs, {
        ...part,
        *pieces() {
          if (whole) for (const piece of pieces(source, name)) yield converted(piece, entry.dtype, part.dtype);
          else yield converted(movedBack(rowsOf(readStored(source, name), index, rows), known.rule.move, heads, name).data, entry.dtype, part.dtype);
        },
      });
    });
  }
  if (tensors.size === 0) throw new RuntimeError("ERR_CHECKPOINT", `${source.path}: holds no parameter that begins with "${prefix}" and has a name in ${family.name}'s ${dialect.name} format.`, { path: source.path, use });
  return { family: family.name, dialect: dialect.name, tensors, left, config: family.toConfig(options, dtype ?? [...tensors.values()][0].dtype) };
}

function dialectOf(dialects: readonly Dialect[], wanted: string | undefined): Dialect {
  const names = dialects.map(({ name }) => name);
  const chosen = dialects.find(({ name }) => name === (wanted ?? "hugging-face")) ?? (wanted === undefined ? dialects[0] : undefined);
  if (chosen) return chosen;
  const guess = nearest(wanted!, names);
  throw new RuntimeError("ERR_INPUT", `--dialect expected one of ${names.join(", ")}, got ${JSON.stringify(wanted)}.${guess ? ` Did you mean "${guess}"?` : ""}`, { dialect: wanted, known: names });
}

const floats: readonly StoredDType[] = ["F64", "F32", "F16", "BF16"];

const dtypeOf = ({ dtype }: StoredEntry, wanted: StoredDType | undefined): StoredDType => (wanted !== undefined && floats.includes(dtype) ? wanted : dtype);

function converted(bytes: Uint8Array, from: StoredDType, to: StoredDType): Uint8Array {
  if (from === to) return bytes;
  const count = bytes.byteLength / (bytesOf({ dtype: from, shape: [1] }));
  return fromFloat32(toFloat32({ dtype: from, shape: [count], data: bytes }), to);
}
