/**
 * From a failure of the disk to the number that an NBD client understands.
 *
 * The table of codes says what a guest sees (`nbd` in errors.ts); whatever it does not mention is EIO.
 */
import { asRowanError, errorKind } from '../errors.ts'
import { COMMAND, ERRNO } from './protocol.ts'
import type { Failure } from './reply-format.ts'

/**
 * The errno for a failure of `command`.
 *
 * A write past the end of the disk is ENOSPC where a read is EINVAL (proto.md, "Error values"); a write without memory,
 * space or quota on the host is ENOSPC as well.
 */
export function errnoOf(error: unknown, command: number): number {
  const { code } = asRowanError(error, 'STORE_IO')
  if (code === 'OUT_OF_RANGE') return outOfRangeErrno(command)
  return ERRNO[errorKind(code).nbd ?? 'EIO']
}

/**
 * A failure of `command`, as the client is told of it. The sentence is the one of the table of codes: the message of an
 * error may name files of this host.
 */
export function failureOf(error: unknown, command: number): Failure {
  const { code } = asRowanError(error, 'STORE_IO')
  return { errno: errnoOf(error, command), text: `${code}: ${errorKind(code).meaning}` }
}

/** What a request past the end of the disk is answered with. */
export function outOfRangeErrno(command: number): number {
  return command === COMMAND.WRITE || command === COMMAND.WRITE_ZEROES ? ERRNO.ENOSPC : ERRNO.EINVAL
}
