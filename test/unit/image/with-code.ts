/**
 * For `expect(…).toThrow(withCode(…))`: a RowanError with this code, whatever its message.
 */
import { expect } from 'vitest'
import type { ErrorCode } from '../../../src/errors.ts'

export function withCode(code: ErrorCode): unknown {
  return expect.objectContaining({ name: 'RowanError', code })
}
