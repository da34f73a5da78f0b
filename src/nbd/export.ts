/**
 * What can be served: a disk under a name.
 */
import type { BlockDevice } from '../disk/block-device.ts'
import { MAX_PAYLOAD_BYTES, MINIMUM_BLOCK_BYTES, PREFERRED_BLOCK_BYTES, TRANSMISSION_FLAG } from './protocol.ts'
import type { Session } from './session.ts'

export interface Export {
  device: BlockDevice
  /** Its own name, when it may be opened under another one too, such as '' for the default export. */
  name?: string
  /** One line for a person who lists the exports. */
  description?: string
}

/** Where the server finds its exports; asked anew for every client. */
export interface Exports {
  list(): string[]
  /** The export of this name, '' being the default one; undefined when there is none. */
  open(name: string): Export | undefined
}

/**
 * The transmission flags of a disk, for a client that has agreed on `session` so far.
 *
 * CAN_MULTI_CONN holds for every BlockDevice: a flush makes durable all that was acknowledged before, whoever wrote it.
 */
export function transmissionFlags(device: BlockDevice, { mode, contexts }: Pick<Session, 'mode' | 'contexts'>): number {
  const flag = TRANSMISSION_FLAG
  const always = flag.HAS_FLAGS | flag.SEND_FLUSH | flag.SEND_FUA | flag.CAN_MULTI_CONN | flag.SEND_CACHE
  const writing = device.readOnly ? flag.READ_ONLY : flag.SEND_TRIM | flag.SEND_WRITE_ZEROES | flag.SEND_FAST_ZERO
  const chunks = mode === 'simple' ? 0 : flag.SEND_DF
  const statusPayload = mode === 'extended' && contexts.length > 0 ? flag.BLOCK_STATUS_PAYLOAD : 0
  return always | writing | chunks | statusPayload
}

/** Minimum, preferred and maximum size of a request. A disk that ends inside a sector is served to its last byte. */
export function blockSizes(device: BlockDevice): { minimum: number; preferred: number; maximum: number } {
  const minimum = device.sizeBytes % MINIMUM_BLOCK_BYTES === 0 ? MINIMUM_BLOCK_BYTES : 1
  return { minimum, preferred: PREFERRED_BLOCK_BYTES, maximum: MAX_PAYLOAD_BYTES }
}
