/**
 * A replica as the fetching side sees it: what it can be asked, whatever lies between. Each request gets one answer through
 * ReplicaEvents (replica-client.ts); nothing here decides what is asked.
 */
import type { RowanError } from '../errors.ts'
import type { Rank } from './messages.ts'
import type { ItemKey } from './scheduler-types.ts'

export interface ReplicaLink {
  readonly peer: string
  readonly ended: boolean
  /** Whether it has answered at all. */
  readonly greeted: boolean
  /** Whether this side keeps the replica from sending. */
  readonly paused: boolean
  /** Whether one more image can be opened on it. */
  readonly hasRoom: boolean
  hasOpened(image: number): boolean
  /** Whether the answer to `open` has not come. */
  awaits(image: number): boolean
  /** Whether it said that it does not have the image, and will say so when it has. */
  lacks(image: number): boolean
  /** Asks for an image's root, with all of its index where `all` and the size allow. Once for each image. */
  open(image: number, id: string, all: boolean): void
  /** Gives an image up; what is still owed of it does not come. */
  release(image: number): void
  /** Asks for blocks and nodes, `onBehalf` for what it would have to fetch; each will have one answer. */
  request(keys: ItemKey[], rank: Rank, acceptZstd: boolean, onBehalf?: boolean): void
  raise(keys: ItemKey[], rank: Rank): void
  /** Calls blocks off; the answer may be the block all the same. */
  callOff(keys: ItemKey[]): void
  /** Lets it send so many more bytes that no guest waits for. */
  credit(bytes: number): void
  end(error?: RowanError): void
}
