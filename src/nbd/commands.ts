/**
 * The commands of the transmission phase, as a table, and the rules that a request must keep before the disk sees it.
 */
import type { BlockDevice } from '../disk/block-device.ts'
import { outOfRangeErrno } from './errno.ts'
import { COMMAND, COMMAND_FLAG, ERRNO, MAX_PAYLOAD_BYTES } from './protocol.ts'
import type { Failure } from './reply-format.ts'
import type { Session } from './session.ts'

interface CommandRule {
  /** Flags that the command may carry. FUA must be taken with every command that has a reply. */
  flags: number
  /** Those that it may carry only where replies have chunks. */
  chunkFlags: number
  /** Refused by a read-only disk. */
  modifies: boolean
  /** Offset and length name a part of the disk; otherwise both must be zero. */
  hasRange: boolean
  /** As many bytes as the request's length travel one way or the other. */
  carriesData: boolean
  /** What follows an extended header: `never`, `always`, or, where there are contexts to choose from, `perhaps`. */
  payload: 'never' | 'always' | 'perhaps'
}

const { FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN } = COMMAND_FLAG
const PLAIN: CommandRule = {
  flags: FUA,
  chunkFlags: 0,
  modifies: false,
  hasRange: true,
  carriesData: false,
  payload: 'never'
}

/** Indexed by command. DISC is not here: it has no reply, so nothing about it can be refused. */
const COMMANDS: readonly (CommandRule | undefined)[] = (() => {
  const table: CommandRule[] = []
  table[COMMAND.READ] = { ...PLAIN, chunkFlags: DF, carriesData: true }
  table[COMMAND.WRITE] = { ...PLAIN, modifies: true, carriesData: true, payload: 'always' }
  table[COMMAND.FLUSH] = { ...PLAIN, hasRange: false }
  table[COMMAND.TRIM] = { ...PLAIN, modifies: true }
  table[COMMAND.CACHE] = PLAIN
  table[COMMAND.WRITE_ZEROES] = { ...PLAIN, flags: FUA | NO_HOLE | FAST_ZERO, modifies: true }
  table[COMMAND.BLOCK_STATUS] = { ...PLAIN, chunkFlags: REQ_ONE, payload: 'perhaps' }
  return table
})()

const refusal = (errno: number, text: string): Failure => ({ errno, text })
const UNKNOWN_COMMAND = refusal(ERRNO.EINVAL, 'there is no such command')
const UNKNOWN_FLAG = refusal(ERRNO.EINVAL, 'the command takes no such flag')
const NO_CONTEXTS = refusal(ERRNO.EINVAL, 'no metadata context was selected for this export')
const NO_PAYLOAD = refusal(ERRNO.EINVAL, 'a write needs its payload')
const NEEDLESS_PAYLOAD = refusal(ERRNO.EINVAL, 'the command takes no payload')
const NO_RANGE = refusal(ERRNO.EINVAL, 'the command takes neither offset nor length')
const READ_ONLY = refusal(ERRNO.EPERM, 'the disk is read-only')
const TOO_LONG = refusal(ERRNO.EINVAL, `a payload has at most ${MAX_PAYLOAD_BYTES} bytes`)
const READ_TOO_LONG = refusal(ERRNO.EOVERFLOW, `a read has at most ${MAX_PAYLOAD_BYTES} bytes`)
const MISALIGNED = refusal(ERRNO.EINVAL, 'offset and length must be multiples of the minimum block size')
const NO_LENGTH = refusal(ERRNO.EINVAL, 'a status of no bytes is none')
const PAST_THE_END = 'the request reaches past the end of the disk'

/** The fields of a request that its rules look at. */
export interface RequestFields {
  readonly command: number
  readonly flags: number
  readonly offset: number
  readonly length: number
  readonly payloadBytes: number
}

/** What the rules depend on besides the request. */
export interface CommandContext {
  device: BlockDevice
  session: Pick<Session, 'mode' | 'contexts'>
  /**
   * What offset and length must be multiples of: the minimum block size for a client that asked for it, 1 for others,
   * who may rely on the default (proto.md, "Size constraints").
   */
  blockBytes: number
}

/** What a request deserves before the disk sees it; undefined when it may pass. */
export function judge(request: RequestFields, context: CommandContext): Failure | undefined {
  const rule = COMMANDS[request.command]
  if (rule === undefined) return UNKNOWN_COMMAND
  const { device, session } = context
  const { mode } = session
  const flags = mode === 'extended' ? request.flags & ~PAYLOAD_LEN : request.flags
  if ((flags & ~(mode === 'simple' ? rule.flags : rule.flags | rule.chunkFlags)) !== 0) return UNKNOWN_FLAG
  if (mode === 'extended') {
    const hasPayload = (request.flags & PAYLOAD_LEN) !== 0
    if (hasPayload && rule.payload === 'never') return NEEDLESS_PAYLOAD
    if (!hasPayload && rule.payload === 'always') return NO_PAYLOAD
  }
  if (request.command === COMMAND.BLOCK_STATUS) {
    if (session.contexts.length === 0) return NO_CONTEXTS
    // The range is known when the payload is: judgeRange.
    if (request.payloadBytes > 0) return undefined
    if ((request.flags & PAYLOAD_LEN) !== 0 || request.length === 0) return NO_LENGTH
  }
  if (!rule.hasRange) return request.offset === 0 && request.length === 0 ? undefined : NO_RANGE
  if (rule.modifies && device.readOnly) return READ_ONLY
  if (rule.carriesData && request.length > MAX_PAYLOAD_BYTES) {
    return request.command === COMMAND.READ && mode !== 'simple' ? READ_TOO_LONG : TOO_LONG
  }
  return judgeRange(request.command, request.offset, request.length, context)
}

/** Whether a range is within the disk and aligned as the client promised. */
export function judgeRange(
  command: number,
  offset: number,
  length: number,
  { device, blockBytes }: Pick<CommandContext, 'device' | 'blockBytes'>
): Failure | undefined {
  if (offset + length > device.sizeBytes) return refusal(outOfRangeErrno(command), PAST_THE_END)
  if (offset % blockBytes !== 0 || length % blockBytes !== 0) return MISALIGNED
  return undefined
}
