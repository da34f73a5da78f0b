/**
 * Errors on their way between threads. A structured clone would keep the message and lose the code.
 */
import { asRowanError, type ErrorCode, RowanError } from '../errors.ts'

export interface PackedError {
  code: ErrorCode
  message: string
  stack: string | undefined
  cause: string | undefined
}

/** What is no RowanError yet becomes INTERNAL, as everywhere. */
export function packError(error: unknown): PackedError {
  const { code, message, stack, cause } = asRowanError(error)
  return { code, message, stack, cause: cause instanceof Error ? cause.message : undefined }
}

/** With the stack of where it was thrown. */
export function unpackError({ code, message, stack, cause }: PackedError): RowanError {
  const error = new RowanError(code, message, cause === undefined ? {} : { cause: new Error(cause) })
  if (stack !== undefined) error.stack = stack
  return error
}
