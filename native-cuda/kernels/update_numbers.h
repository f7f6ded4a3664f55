// What the host would compute between a step's gradients and its update, so that both can be recorded as one piece.
// update_numbers: squares f64 (n), schedule f64 (2) = learning rate, step -> numbers f64 (3) = learning rate, step, gradScale,
//   norm f64 (1); scalar maxNorm, 0: no clipping.
//     norm = sqrt(squares[0] + squares[1] + ...), added in that order;  gradScale = min(1, maxNorm / (norm + 1e-6)), 1 without clipping
//   f64 throughout and one version: additions, a root and a division are the same bits everywhere (IEEE 754), on the host too.
//   A norm that is not a number gives a gradScale that is none.
// collect: x1 .. xn of any shapes and dtypes but f16 -> y f64 (sum of their elements): all their elements in order, to be read at once.
#pragma once
