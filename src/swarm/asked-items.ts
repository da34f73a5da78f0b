/**
 * What one requester has asked for, blocks and nodes of indexes, and is yet to be answered.
 *
 * Each item asked for gets exactly one answer: what cannot be queued is answered at once with MISSING. All else stands in the queue that
 * all requesters share (uploads.ts decides whose turn it is, and calls `answer…`), or is fetched on its behalf first (on-behalf.ts), or
 * has left the queue and is on its way (outgoing-blocks.ts). A request for what no honest requester can mean (a block outside the
 * image, an unknown handle) ends the stream.
 *
 * Blocks and nodes are one queue's, rise in it by one message and leave it with their image; they differ in their answers alone. A block
 * is read and hashed, maybe off this thread, and may have to wait for credit. A node goes out in its turn, at once.
 *
 * Keys have the handle in the place of the image's number (scheduler-types.ts).
 */

import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { ABSENT, type LocalImage, UNKNOWN } from '../store/images.ts'
import type { FrameStream } from './frame-stream.ts'
import type { Frame } from './frames.ts'
import { nodeIsInside } from './index-nodes.ts'
import {
  type MissingReason,
  missingFrame,
  type NodePlace,
  nodesFrame,
  type Rank,
  readCancel,
  readGetNodes,
  readRaise,
  readWant
} from './messages.ts'
import type { FetchedOnBehalf, OnBehalf } from './on-behalf.ts'
import type { OpenedImages } from './opened-images.ts'
import { OutgoingBlocks } from './outgoing-blocks.ts'
import { blockKey, itemOf, nodeKey } from './scheduler-types.ts'
import type { UploadQueue } from './upload-queue.ts'

export interface UploadJob {
  acceptZstd: boolean
}

export interface AskedItemsComponents {
  frames: Pick<FrameStream, 'send' | 'writable' | 'ended'>
  images: OpenedImages
  queue: UploadQueue<AskedItems, UploadJob>
  onBehalf: OnBehalf<AskedItems, UploadJob>
  /** Who fetches blocks of this image for this requester, if anybody does. */
  helperOf(image: string): FetchedOnBehalf | undefined
  /** A block or a node was sent. */
  gave(): void
  /** So much was sent beside blocks. */
  spent(asked: AskedItems, bytes: number): void
  /** Something was put into the queue, or more can be taken out of it. */
  work(): void
  log: Log
}

/** The index of an image that is small enough follows its root before anything but demand. */
const EAGER_RANK: Rank = 1
const DEMAND: Rank = 0
/** Blocks read for one requester at a time. */
const MAX_READS = 2

export class AskedItems {
  readonly #components: AskedItemsComponents
  /** Blocks that were taken out of the queue. */
  readonly outgoing = new OutgoingBlocks(frame => this.#sendBlock(frame))
  /** What is given is limited as a courtesy is (see traffic-limits.ts); by the first image that the requester opens. */
  isCourtesy = false
  servedBlocks = 0
  servedBytes = 0

  constructor(components: AskedItemsComponents) {
    this.#components = components
  }

  /** Whether another block may be read: one that a guest waits for, or any. */
  canTake(rank: Rank): boolean {
    const { writable } = this.#components.frames
    return writable && this.outgoing.reading < MAX_READS && (rank === DEMAND || !this.outgoing.anyHeld)
  }

  /** Nobody is there any more to be answered. */
  get ended(): boolean {
    return this.#components.frames.ended
  }

  imageOf(key: number): LocalImage | undefined {
    return this.#components.images.image(itemOf(key).image)
  }

  // Requests

  want(frame: Frame): void {
    const { blocks, priority, acceptZstd, onBehalf } = readWant(frame)
    const { frames, images } = this.#components
    const image = images.requested(frame.handle)
    if (image === undefined) {
      frames.send(missingFrame(frame.handle, blocks, 'absent'))
      return
    }
    const refused: number[] = []
    for (const block of blocks) {
      if (block >= image.root.blocks) {
        throw new RowanError('WIRE_INVALID', `block ${block} of an image of ${image.root.blocks}`)
      }
      const key = blockKey(frame.handle, block)
      const isTaken =
        onBehalf && isNotHere(image, block)
          ? this.#fetchOnBehalf(key, image, { block, rank: priority, job: { acceptZstd } })
          : this.#queue(key, priority, acceptZstd)
      if (!isTaken) refused.push(block)
    }
    if (refused.length > 0) frames.send(missingFrame(frame.handle, refused, 'refused'))
    this.#components.work()
  }

  getNodes(frame: Frame): void {
    const { refs, priority } = readGetNodes(frame)
    const { frames, images } = this.#components
    const image = images.requested(frame.handle)
    if (image === undefined) {
      frames.send(nodesFrame(frame.handle, [], refs))
      return
    }
    const refused: NodePlace[] = []
    for (const ref of refs) {
      if (!nodeIsInside(image.root, ref)) {
        throw new RowanError('WIRE_INVALID', `node ${ref.position} of level ${ref.level} is outside the image`)
      }
      if (!this.#queue(nodeKey(frame.handle, ref.level, ref.position), priority, false)) refused.push(ref)
    }
    if (refused.length > 0) frames.send(nodesFrame(frame.handle, [], refused))
    this.#components.work()
  }

  /** Nodes that follow an image's root without being asked for one by one. */
  follow(handle: number, nodes: readonly NodePlace[]): void {
    for (const { level, position } of nodes) this.#queue(nodeKey(handle, level, position), EAGER_RANK, false)
    this.#components.work()
  }

  grant(bytes: number): void {
    this.outgoing.grant(bytes)
    this.#components.work()
  }

  raise(frame: Frame): void {
    const { images, queue, onBehalf } = this.#components
    images.requested(frame.handle)
    const { blocks, nodes, priority } = readRaise(frame)
    for (const block of blocks) {
      const key = blockKey(frame.handle, block)
      queue.raise(this, key, priority)
      onBehalf.raise(this, key, priority)
      if (priority === DEMAND) this.outgoing.raise(key)
    }
    for (const { level, position } of nodes) queue.raise(this, nodeKey(frame.handle, level, position), priority)
    this.#components.work()
  }

  cancel(frame: Frame): void {
    const { frames, images, queue, onBehalf } = this.#components
    images.requested(frame.handle)
    const cancelled = readCancel(frame).filter(block => {
      const key = blockKey(frame.handle, block)
      return queue.cancel(this, key) || onBehalf.cancel(this, key) || this.outgoing.drop(key)
    })
    if (cancelled.length === 0) return
    frames.send(missingFrame(frame.handle, cancelled, 'cancelled'))
    this.#components.work()
  }

  /** The handle may be given to another image, which has other blocks and nodes. */
  release(handle: number): void {
    const isOfIt = (key: number) => itemOf(key).image === handle
    this.#components.queue.cancelAll(this, isOfIt)
    this.#components.onBehalf.drop(this, isOfIt)
    this.outgoing.dropAll(isOfIt)
    this.#components.work()
  }

  #fetchOnBehalf(key: number, image: LocalImage, what: { block: number; rank: Rank; job: UploadJob }): boolean {
    const helper = this.#components.helperOf(image.id)
    return helper !== undefined && this.#components.onBehalf.take(this, key, helper, what)
  }

  #queue(key: number, rank: Rank, acceptZstd: boolean): boolean {
    return this.#components.queue.add(this, key, rank, { acceptZstd })
  }

  // Answers

  answerMissing(key: number, reason: MissingReason): void {
    const item = itemOf(key)
    if (item.kind === 'block') this.#components.frames.send(missingFrame(item.image, [item.block], reason))
  }

  answerNode(key: number): void {
    const item = itemOf(key)
    const image = this.imageOf(key)
    if (item.kind !== 'node' || image === undefined) return
    const place = { level: item.level, position: item.position }
    const bytes = this.#nodeBytes(image, place)
    if (bytes === undefined) {
      this.#components.frames.send(nodesFrame(item.image, [], [place]))
      return
    }
    this.sendIndex(nodesFrame(item.image, [{ ...place, bytes }], []))
    this.#components.gave()
  }

  /** A frame with a part of an index: it counts against the rate. */
  sendIndex(frame: Uint8Array): void {
    this.#components.spent(this, frame.byteLength)
    this.#components.frames.send(frame)
  }

  /** Nodes are read in the turn of whoever let the queue go on, who is not to be held up by what the store cannot give. */
  #nodeBytes(image: LocalImage, { level, position }: NodePlace): Uint8Array | undefined {
    try {
      return image.nodeBytes(level, position)
    } catch (cause) {
      const { code, message } = asRowanError(cause, 'STORE_IO')
      this.#components.log.warn('a node of an index could not be served', { code, message })
      return undefined
    }
  }

  #sendBlock(frame: Uint8Array): void {
    this.servedBlocks++
    this.servedBytes += frame.byteLength
    this.#components.frames.send(frame)
    this.#components.gave()
  }
}

function isNotHere(image: LocalImage, block: number): boolean {
  const where = image.locate(block)
  return where === ABSENT || where === UNKNOWN
}
