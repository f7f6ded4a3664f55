/**
 * A simulated schedule as a picture (SVG): a row per rank with what it computes when, and below it a curve of what it remembers.
 *
 * GA-1: time runs to the right over the whole width; curves share one scale, whose top is the most that any rank remembers.
 * GA-2: numbers in boxes are microbatches; a box too narrow for its number goes without.
 */
import type { RecipePlan } from "./on-paper.ts";
import { kindB, kindF, kindW } from "../schedule/schedule.ts";
import { bytes as formatBytes } from "./report.ts";

const [left, width, top, lane, box, curve] = [130, 1200, 66, 62, 22, 28];
/** F, B, I, W: told apart without colour by their lightness as well. */
const colours = ["#8fb8de", "#f2b05e", "#d98a3d", "#6f8f5f"] as const;
const names = ["forward", "backward", "input gradient", "weight gradient"] as const;

export function ganttSvg(title: string, found: RecipePlan): string {
  const { schedule, simulation } = found;
  const height = top + schedule.ranks.length * lane + 16;
  const scale = width / (simulation.makespan || 1);
  const most = Math.max(1, ...simulation.peakBytes);
  const used = names.map((_, kind) => kind).filter((kind) => schedule.entries.some((list) => list.some((entry) => (entry & 3) === kind)));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${left + width + 20} ${height}" font-family="sans-serif" font-size="11">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    `<text x="12" y="22" font-size="15">${escape(`${title}: ${schedule.name}, ${schedule.microbatches} microbatches, bubble ${(simulation.bubble * 100).toFixed(1)} %`)}</text>`,
    ...used.map((kind, i) => `<rect x="${12 + i * 130}" y="34" width="12" height="12" fill="${colours[kind]}"/><text x="${30 + i * 130}" y="44">${names[kind]}</text>`),
    `<text x="${12 + used.length * 130}" y="44" fill="#b03060">activations remembered (at most ${formatBytes(most)} on a rank)</text>`,
    ...schedule.ranks.map((name, rank) => rankRow(name, rank, found, scale, most)),
    `</svg>`, "",
  ].join("\n");
}

function rankRow(name: string, rank: number, { schedule, simulation, activationBytes, ranks }: RecipePlan, scale: number, most: number): string {
  const y = top + rank * lane, list = schedule.entries[rank], starts = simulation.starts![rank], ends = simulation.ends![rank];
  const boxes: string[] = [], points = [`${left},${y + box + curve}`];
  let held = 0;
  const level = (time: number, bytes: number): void => {
    points.push(`${at(left + time * scale)},${at(y + box + curve * (1 - held / most))}`, `${at(left + time * scale)},${at(y + box + curve * (1 - bytes / most))}`);
    held = bytes;
  };
  list.forEach((entry, i) => {
    const kind = entry & 3, cell = entry >>> 2, microbatch = cell % schedule.microbatches, stage = Math.floor(cell / schedule.microbatches);
    const x = left + starts[i] * scale, w = (ends[i] - starts[i]) * scale;
    if (kind === kindF && schedule.stages[stage].backward) level(starts[i], held + activationBytes[stage]);
    if (kind === kindB || kind === kindW) level(ends[i], Math.max(0, held - activationBytes[stage]));
    if (w <= 0) return;
    boxes.push(`<rect x="${at(x)}" y="${y}" width="${at(w)}" height="${box}" fill="${colours[kind]}" stroke="#ffffff" stroke-width="${w > 3 ? 0.6 : 0}"><title>${escape(`${schedule.stages[stage].name} ${names[kind]} of microbatch ${microbatch}`)}</title></rect>`);
    if (w >= 7 * String(microbatch).length + 2) boxes.push(`<text x="${at(x + w / 2)}" y="${y + 15}" text-anchor="middle">${microbatch}</text>`);
  });
  return [
    `<text x="12" y="${y + 15}">${escape(name)}</text><text x="12" y="${y + 30}" fill="#666666">${(ranks[rank].busy * 100).toFixed(0)} % busy</text><text x="12" y="${y + 44}" fill="#b03060">${formatBytes(ranks[rank].activations)}</text>`,
    ...boxes, `<polyline points="${points.join(" ")}" fill="none" stroke="#b03060"/>`,
  ].join("\n");
}

const at = (x: number): string => x.toFixed(2);
const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
