/** Chance with a seed: the same numbers for the same seed, and a stream of its own for each purpose. */

import type { Random } from '../src/environment.ts'

/** mulberry32. */
export function dice(seed: number): Random {
  let state = seed >>> 0
  const unit = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
  return { unit, bytes: count => Uint8Array.from({ length: count }, () => Math.floor(unit() * 256)) }
}
