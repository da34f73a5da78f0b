/**
 * What can be served: a disk under a name.
 */
import type { BlockDevice } from '../disk/block-device.ts'
import { MAX_PAYLOAD_BYTES, MINIMUM_BLOCK_BYTES, PREFERRED_BLOCK_BYTES, TRANSMISSION_FLAG } from './protocol.ts'

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
 * The transmission flags of a disk.
 *
 * CAN_MULTI_CONN holds for every BlockDevice: a flush makes durable all that was acknowledged before, whoever wrote it.
 */
export function transmissionFlags(device: BlockDevice): number {
  const flags =
    TRANSMISSION_FLAG.HAS_FLAGS |
    TRANSMISSION_FLAG.SEND_FLUSH |
    TRANSMISSION_FLAG.SEND_FUA |
    TRANSMISSION_FLAG.CAN_MULTI_CONN
  return device.readOnly
    ? flags | TRANSMISSION_FLAG.READ_ONLY
    : flags | TRANSMISSION_FLAG.SEND_TRIM | TRANSMISSION_FLAG.SEND_WRITE_ZEROES
}

/** Minimum, preferred and maximum size of a request. A disk that ends inside a sector is served to its last byte. */
export function blockSizes(device: BlockDevice): { minimum: number; preferred: number; maximum: number } {
  const minimum = device.sizeBytes % MINIMUM_BLOCK_BYTES === 0 ? MINIMUM_BLOCK_BYTES : 1
  return { minimum, preferred: PREFERRED_BLOCK_BYTES, maximum: MAX_PAYLOAD_BYTES }
}
