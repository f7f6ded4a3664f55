/**
 * Resampling along an axis as a matrix: row i holds what every old place contributes to new place i. Computed in f64.
 * Bilinear and bicubic agree with the op `resize`: centres at (i + 1/2) size / newSize - 1/2, the edge repeated.
 */

/** values (rows, columns, C) -> (rows', columns', C), each axis by its matrix. */
export function resampleAxes(values: ArrayLike<number>, channels: number, byRow: readonly Float64Array[], byColumn: readonly Float64Array[]): Float64Array {
  const rows = byRow[0].length, columns = byColumn[0].length;
  const between = new Float64Array(byRow.length * columns * channels);
  byRow.forEach((weights, to) => {
    for (let from = 0; from < rows; from++) {
      if (weights[from] === 0) continue;
      for (let i = 0; i < columns * channels; i++) between[to * columns * channels + i] += weights[from] * values[from * columns * channels + i];
    }
  });
  const result = new Float64Array(byRow.length * byColumn.length * channels);
  for (let row = 0; row < byRow.length; row++) {
    byColumn.forEach((weights, to) => {
      for (let from = 0; from < columns; from++) {
        if (weights[from] === 0) continue;
        for (let c = 0; c < channels; c++) {
          result[(row * byColumn.length + to) * channels + c] += weights[from] * between[(row * columns + from) * channels + c];
        }
      }
    });
  }
  return result;
}

export function bilinearWeights(size: number, newSize: number): Float64Array[] {
  return centres(size, newSize).map((centre) => {
    const at = Math.max(centre, 0), low = Math.floor(at);
    return taps(size, [[low, 1 - (at - low)], [low + 1, at - low]]);
  });
}

/** Keys 1981 with a = -0.75. */
export function bicubicWeights(size: number, newSize: number): Float64Array[] {
  const a = -0.75;
  const near = (t: number) => ((a + 2) * t - (a + 3)) * t * t + 1;
  const far = (t: number) => ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  return centres(size, newSize).map((at) => {
    const low = Math.floor(at), t = at - low;
    return taps(size, [[low - 1, far(t + 1)], [low, near(t)], [low + 1, near(1 - t)], [low + 2, far(2 - t)]]);
  });
}

/**
 * The cubic spline through values at rising `places` (at least 4), its third derivative continuous also at the second and the
 * second last of them, read at `targets`; beyond the ends the end repeats.
 */
export function splineWeights(places: readonly number[], targets: readonly number[]): Float64Array[] {
  const n = places.length;
  const gap = (i: number) => places[i + 1] - places[i];
  const curvature = secondDerivatives(places);
  return targets.map((target) => {
    const t = Math.min(Math.max(target, places[0]), places[n - 1]);
    let i = 0;
    while (i < n - 2 && t > places[i + 1]) i++;
    const h = gap(i), a = (places[i + 1] - t) / h, b = (t - places[i]) / h;
    const [ca, cb] = [((a ** 3 - a) * h * h) / 6, ((b ** 3 - b) * h * h) / 6];
    const weights = Float64Array.from({ length: n }, (_, j) => ca * curvature[i][j] + cb * curvature[i + 1][j]);
    weights[i] += a;
    weights[i + 1] += b;
    return weights;
  });
}

/** Row i: how much every value contributes to the second derivative at place i. */
function secondDerivatives(places: readonly number[]): Float64Array[] {
  const n = places.length;
  const h = Array.from({ length: n - 1 }, (_, i) => places[i + 1] - places[i]);
  const system = Array.from({ length: n }, () => new Float64Array(2 * n)); // [unknowns | values]
  for (let i = 1; i < n - 1; i++) {
    system[i].set([h[i - 1], 2 * (h[i - 1] + h[i]), h[i]], i - 1);
    system[i].set([6 / h[i - 1], -6 / h[i - 1] - 6 / h[i], 6 / h[i]], n + i - 1);
  }
  system[0].set([h[1], -h[0] - h[1], h[0]]);
  system[n - 1].set([h[n - 2], -h[n - 3] - h[n - 2], h[n - 3]], n - 3);
  eliminate(system);
  return system.map((row) => row.slice(n));
}

/** Gauss and Jordan with the largest pivot: [A | B] becomes [1 | A⁻¹ B] in place. */
function eliminate(system: Float64Array[]): void {
  for (let column = 0; column < system.length; column++) {
    let pivot = column;
    for (let r = column + 1; r < system.length; r++) if (Math.abs(system[r][column]) > Math.abs(system[pivot][column])) pivot = r;
    [system[column], system[pivot]] = [system[pivot], system[column]];
    const lead = system[column][column];
    system[column].forEach((value, i, row) => { row[i] = value / lead; });
    for (const [r, row] of system.entries()) {
      const factor = row[column];
      if (r === column || factor === 0) continue;
      for (let i = column; i < row.length; i++) row[i] -= factor * system[column][i];
    }
  }
}

const centres = (size: number, newSize: number): number[] => Array.from({ length: newSize }, (_, i) => ((i + 0.5) * size) / newSize - 0.5);

/** Weights at places, those beyond the ends added to the ends. */
function taps(size: number, at: readonly (readonly [place: number, weight: number])[]): Float64Array {
  const row = new Float64Array(size);
  for (const [place, weight] of at) row[Math.min(Math.max(place, 0), size - 1)] += weight;
  return row;
}
