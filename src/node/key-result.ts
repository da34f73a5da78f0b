/**
 * What the `key` commands answer, with a daemon or without.
 */
import type { KeysShown } from '../release/publisher-keys.ts'
import type { KeyResult } from './command-results.ts'

export function keyResult({ publisher, rootKey, releaseKey, delegation }: KeysShown): KeyResult {
  return {
    publisher,
    releaseKey: releaseKey ?? null,
    sequence: delegation?.sequence ?? null,
    expires: delegation?.expires ?? null,
    root: rootKey === 'here'
  }
}
