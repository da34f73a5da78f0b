/**
 * "Did you mean …": the known word that is nearest to a mistyped one.
 */

/**
 * The number of single-character insertions, deletions, substitutions and swaps of neighbours between two words.
 *
 * Optimal string alignment: Damerau, "A technique for computer detection and correction of spelling errors", 1964.
 */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      row[j] = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        row[j] = Math.min(row[j]!, beforeLast[j - 2]! + 1)
      }
    }
    beforeLast = last
    last = row
  }
  return last[b.length]!
}

/** A word beyond this length is compared by its beginning: the distance costs the product of the lengths. */
const MAX_COMPARED_CHARS = 100

/**
 * The candidate whose name is nearest, whatever its case; the first of equals.
 *
 * @param candidates - at least one
 */
export function nearest<T>(word: string, candidates: readonly T[], nameOf: (candidate: T) => string): T {
  const wanted = word.slice(0, MAX_COMPARED_CHARS).toLowerCase()
  let best = candidates[0] as T
  let bestDistance = Number.POSITIVE_INFINITY
  for (const candidate of candidates) {
    const distance = editDistance(wanted, nameOf(candidate).toLowerCase())
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}
