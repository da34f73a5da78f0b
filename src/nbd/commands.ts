/**
 * The commands of the transmission phase, as a table, and the rules that a request must keep before the disk sees it.
 */
import type { BlockDevice } from '../disk/block-device.ts'
import { outOfRangeErrno } from './errno.ts'
import { COMMAND, COMMAND_FLAG, ERRNO, MAX_PAYLOAD_BYTES } from './protocol.ts'

interface CommandRule {
  /** Flags that the command may carry. FUA must be taken with every command that has a reply. */
  flags: number
  /** Refused by a read-only disk. */
  modifies: boolean
  /** Offset and length name a part of the disk; otherwise both must be zero. */
  hasRange: boolean
  /** As many bytes as the request's length travel one way or the other. */
  carriesData: boolean
}

const { FUA, NO_HOLE } = COMMAND_FLAG

/** Indexed by command. DISC is not here: it has no reply, so nothing about it can be refused. */
const COMMANDS: readonly (CommandRule | undefined)[] = (() => {
  const table: CommandRule[] = []
  table[COMMAND.READ] = { flags: FUA, modifies: false, hasRange: true, carriesData: true }
  table[COMMAND.WRITE] = { flags: FUA, modifies: true, hasRange: true, carriesData: true }
  table[COMMAND.FLUSH] = { flags: FUA, modifies: false, hasRange: false, carriesData: false }
  table[COMMAND.TRIM] = { flags: FUA, modifies: true, hasRange: true, carriesData: false }
  table[COMMAND.WRITE_ZEROES] = { flags: FUA | NO_HOLE, modifies: true, hasRange: true, carriesData: false }
  return table
})()

/** The fields of a request that its rules look at. */
export interface RequestFields {
  readonly command: number
  readonly flags: number
  readonly offset: number
  readonly length: number
}

/**
 * The errno that a request deserves before the disk sees it; 0 when it may pass.
 *
 * @param blockBytes - what offset and length must be multiples of: the minimum block size for a client that asked for
 *   it, 1 for others, who may rely on the default (proto.md, "Size constraints")
 */
export function judge(request: RequestFields, device: BlockDevice, blockBytes: number): number {
  const rule = COMMANDS[request.command]
  if (rule === undefined || (request.flags & ~rule.flags) !== 0) return ERRNO.EINVAL
  if (!rule.hasRange) return request.offset === 0 && request.length === 0 ? 0 : ERRNO.EINVAL
  if (rule.modifies && device.readOnly) return ERRNO.EPERM
  if (rule.carriesData && request.length > MAX_PAYLOAD_BYTES) return ERRNO.EINVAL
  if (request.offset + request.length > device.sizeBytes) return outOfRangeErrno(request.command)
  if (request.offset % blockBytes !== 0 || request.length % blockBytes !== 0) return ERRNO.EINVAL
  return 0
}
