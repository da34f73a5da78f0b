/** Chance, drawn from the injected dice. */

import type { Random } from '../environment.ts'

/** Up to `count` of `items`, every choice and order equally likely (Fisher and Yates). `items` is not changed. */
export function takeRandom<T>(items: readonly T[], count: number, random: Random): T[] {
  const pool = [...items]
  const taken: T[] = []
  while (taken.length < count && pool.length > 0) {
    const at = Math.min(pool.length - 1, Math.floor(random.unit() * pool.length))
    taken.push(pool[at]!)
    pool[at] = pool.at(-1)!
    pool.pop()
  }
  return taken
}

/** `value`, give or take up to `part` of it. */
export function jittered(value: number, part: number, random: Random): number {
  return value * (1 - part + 2 * part * random.unit())
}
