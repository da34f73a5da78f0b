/**
 * One requester, at the serving side: its stream, the images that it opened, what it was told.
 *
 * Requests are read here and put into the common queue; the server (block-server.ts) decides whose turn it is and calls
 * `answer…`. A request that cannot be queued is answered at once with MISSING, so each block asked for gets exactly one answer.
 * A request for what no honest requester can mean (a block outside the image, an unknown handle) ends the stream.
 */

import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { toHex } from '../image/hash.ts'
import { ABSENT, type LocalImage, UNKNOWN } from '../store/images.ts'
import { type FrameCarrier, FrameStream } from './frame-stream.ts'
import { FRAME, type Frame, frameName } from './frames.ts'
import { Greeting, type RecordExchange } from './greeting.ts'
import { eagerNodes, nodeIsInside } from './index-nodes.ts'
import { MAX_IMAGES_PER_STREAM } from './limits.ts'
import {
  imageFrame,
  type MissingReason,
  missingFrame,
  type NodePlace,
  nodesFrame,
  OPEN_INDEX,
  type Rank,
  readCancel,
  readGetNodes,
  readOpen,
  readProblem,
  readRaise,
  readWant
} from './messages.ts'
import type { FetchedOnBehalf, OnBehalf } from './on-behalf.ts'
import { OutgoingBlocks } from './outgoing-blocks.ts'
import { blockKey, itemOf, nodeKey } from './scheduler-types.ts'
import { ToldImage } from './told-image.ts'
import type { UploadQueue } from './upload-queue.ts'

export interface UploadJob {
  acceptZstd: boolean
}

export interface RequesterComponents {
  images: { open(id: string): Promise<LocalImage | undefined> }
  queue: UploadQueue<ServedRequester, UploadJob>
  records: RecordExchange | undefined
  /** The boot profile that a requester of this image is given. */
  profileOf(image: string): Uint8Array | undefined
  log: Log
  /** An image that this process has open. */
  openedImage(id: string): LocalImage | undefined
  /** Who fetches blocks of this image for this requester, if anybody does. */
  helperOf(requester: ServedRequester, image: string): FetchedOnBehalf | undefined
  onBehalf: OnBehalf<ServedRequester, UploadJob>
  /** Asks for a place among those served, for a requester of this image; false when it was sent away. */
  admit(requester: ServedRequester, image: string): boolean
  /** A block or a node was sent to it. */
  gave(requester: ServedRequester): void
  /** So much was sent to it beside blocks. */
  spent(requester: ServedRequester, bytes: number): void
  /** Resolves when the upload rate has something left. */
  rateAllows(): Promise<void>
  /** Something was put into the queue, or the stream can take more. */
  work(): void
  ended(requester: ServedRequester): void
}

/** The index of an image that is small enough follows its root before anything but demand. */
const EAGER_RANK: Rank = 1
const DEMAND: Rank = 0
/** Blocks read for one requester at a time. */
const MAX_READS = 2
/** Images that a requester may open without waiting for the upload rate: an answer carries 32 KiB of index, and a start is in a hurry. */
const HASTY_OPENS = 8
const NOTHING = new Uint8Array(0)

export class ServedRequester {
  readonly peer: string
  readonly #components: RequesterComponents
  readonly #frames: FrameStream
  readonly #greeting: Greeting
  /** Blocks that were taken out of the queue for this requester. */
  readonly outgoing = new OutgoingBlocks(frame => this.#sendBlock(frame))
  readonly #images = new Map<number, ToldImage>()
  /** Images that are not here (yet), by handle: what is asked of them, maybe before the requester could know, is missing. */
  readonly #unknown = new Map<number, { id: string; index: number }>()
  /** On the local network. */
  readonly isNear: boolean
  /** What it gets is limited as a courtesy is (see traffic-limits.ts); by the first image that it opens. */
  isCourtesy = false
  admitted = false
  servedBlocks = 0
  servedBytes = 0
  #opens = 0

  constructor(who: { peer: string; isNear: boolean }, stream: FrameCarrier, components: RequesterComponents) {
    const { peer } = who
    this.peer = peer
    this.isNear = who.isNear
    this.#components = components
    this.#greeting = new Greeting(peer, components.records, components.log)
    this.#frames = new FrameStream(stream, 'requester', {
      onFrame: frame => this.#handle(frame),
      onWritable: () => components.work(),
      onEnd: error => {
        if (error !== undefined) {
          components.log.debug('a requester is gone', { peer, code: error.code, message: error.message })
        }
        for (const told of this.#images.values()) told.end()
        components.ended(this)
      }
    })
  }

  /** Whether another block may be read for it: one that a guest waits for, or any. */
  canTake(rank: Rank): boolean {
    return this.#frames.writable && this.outgoing.reading < MAX_READS && (rank === DEMAND || !this.outgoing.anyHeld)
  }

  get unsentBytes(): number {
    return this.#frames.unsentBytes
  }

  get ended(): boolean {
    return this.#frames.ended
  }

  get greeted(): boolean {
    return this.#greeting.received
  }

  send(frame: Uint8Array): void {
    this.#frames.send(frame)
  }

  end(error?: RowanError): void {
    this.#frames.end(error)
  }

  imageOf(key: number): LocalImage | undefined {
    return this.#images.get(itemOf(key).image)?.image
  }

  #sendBlock(frame: Uint8Array): void {
    this.servedBlocks++
    this.servedBytes += frame.byteLength
    this.#frames.send(frame)
    this.#components.gave(this)
  }

  /** @param key - has the handle in the place of the image's number, as all keys here */
  answerNode(key: number): void {
    const item = itemOf(key)
    const image = this.#images.get(item.image)?.image
    if (item.kind !== 'node' || image === undefined) return
    const place = { level: item.level, position: item.position }
    const bytes = this.#nodeBytes(image, place)
    if (bytes === undefined) {
      this.#frames.send(nodesFrame(item.image, [], [place]))
      return
    }
    this.#sendPart(nodesFrame(item.image, [{ ...place, bytes }], []))
    this.#components.gave(this)
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

  #sendPart(frame: Uint8Array): void {
    this.#components.spent(this, frame.byteLength)
    this.#frames.send(frame)
  }

  answerMissing(key: number, reason: MissingReason): void {
    const item = itemOf(key)
    if (item.kind === 'block') this.#frames.send(missingFrame(item.image, [item.block], reason))
  }

  /** A block of this image came here: partial news for whoever has the image open. */
  noteStored(id: string, block: number): void {
    for (const told of this.#images.values()) if (told.image.id === id) told.stored(block)
  }

  /** Blocks of this image are not here any more. */
  noteLost(id: string, pages: readonly number[]): void {
    for (const told of this.#images.values()) if (told.image.id === id) told.lost(pages)
  }

  /** An image came here: whoever asked for it before, and did not give it up, gets its answer. */
  noteOpened(image: LocalImage): void {
    this.#orEnd(() => {
      for (const [handle, { id, index }] of this.#unknown) {
        if (id !== image.id) continue
        this.#unknown.delete(handle)
        this.#answerOpen(handle, image, index)
      }
    })
  }

  /** Tells what came, and what went, since the last time, and whether it is helped. */
  tellNews(): void {
    this.#orEnd(() => {
      for (const told of this.#images.values()) for (const frame of told.news()) this.#frames.send(frame)
    })
  }

  /** What is told unasked may need the store: where that fails, it is this requester's end, and nobody else's. */
  #orEnd(tell: () => void): void {
    try {
      tell()
    } catch (cause) {
      this.end(asRowanError(cause, 'STORE_IO', 'what is here of an image could not be told'))
    }
  }

  #handle(frame: Frame): void | Promise<void> {
    if (frame.type !== FRAME.hello && !this.#greeting.received) {
      throw new RowanError('WIRE_INVALID', `${frameName(frame.type)} before HELLO`)
    }
    switch (frame.type) {
      case FRAME.hello:
        this.#greeting.hello(frame)
        this.#greeting.send(this.#frames)
        return
      case FRAME.record:
        this.#greeting.record(frame)
        return
      case FRAME.open:
        return this.#open(frame)
      case FRAME.release:
        this.#release(frame.handle)
        return
      case FRAME.getNodes:
        this.#getNodes(frame)
        return
      case FRAME.want:
        this.#want(frame)
        return
      case FRAME.credit:
        this.#grant(frame.number)
        return
      case FRAME.raise:
        this.#raise(frame)
        return
      case FRAME.cancel:
        this.#cancel(frame)
        return
      case FRAME.problem: {
        const { code, message } = readProblem(frame)
        this.#components.log.debug('a requester reports a problem', { peer: this.peer, code, message })
        return
      }
      default:
        throw new RowanError('WIRE_INVALID', `${frameName(frame.type)} to a server`)
    }
  }

  async #open(frame: Frame): Promise<void> {
    const { handle } = frame
    const { image: idBytes, index } = readOpen(frame)
    if (handle === 0 || this.#images.has(handle) || this.#unknown.has(handle)) {
      throw new RowanError('WIRE_INVALID', `OPEN of handle ${handle}`)
    }
    if (this.#images.size + this.#unknown.size >= MAX_IMAGES_PER_STREAM) {
      throw new RowanError('LIMIT_EXCEEDED', `more than ${MAX_IMAGES_PER_STREAM} images open on one stream`)
    }
    const id = toHex(idBytes)
    if (!this.admitted && !this.#components.admit(this, id)) return
    if (++this.#opens > HASTY_OPENS) await this.#components.rateAllows()
    const image = await this.#components.images.open(id)
    if (this.#frames.ended) return
    if (image === undefined) {
      // It may have come while it was looked for.
      const here = this.#components.openedImage(id)
      if (here !== undefined) {
        this.#answerOpen(handle, here, index)
        return
      }
      this.#unknown.set(handle, { id, index })
      this.#frames.send(imageFrame(handle, { root: NOTHING, top: NOTHING, complete: false, follow: 0 }))
      return
    }
    this.#answerOpen(handle, image, index)
  }

  #answerOpen(handle: number, image: LocalImage, index: number): void {
    const told = new ToldImage(handle, image, () => this.#components.helperOf(this, image.id) !== undefined)
    this.#images.set(handle, told)
    const nodes = index === OPEN_INDEX.all ? eagerNodes(image) : []
    const top = image.nodeBytes(image.root.height, 0) ?? NOTHING
    const { rootBytes: root } = image
    const profile = this.#components.profileOf(image.id)
    this.#sendPart(imageFrame(handle, { root, top, complete: told.complete, follow: nodes.length, profile }))
    if (!told.complete) for (const frame of told.all()) this.#frames.send(frame)
    for (const { level, position } of nodes) this.#queue(nodeKey(handle, level, position), EAGER_RANK, false)
    this.#components.work()
  }

  #want(frame: Frame): void {
    const { blocks, priority, acceptZstd, onBehalf } = readWant(frame)
    const image = this.#opened(frame.handle)?.image
    if (image === undefined) {
      this.#frames.send(missingFrame(frame.handle, blocks, 'absent'))
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
    if (refused.length > 0) this.#frames.send(missingFrame(frame.handle, refused, 'refused'))
    this.#components.work()
  }

  #getNodes(frame: Frame): void {
    const { refs, priority } = readGetNodes(frame)
    const image = this.#opened(frame.handle)?.image
    if (image === undefined) {
      this.#frames.send(nodesFrame(frame.handle, [], refs))
      return
    }
    const refused: NodePlace[] = []
    for (const ref of refs) {
      if (!nodeIsInside(image.root, ref)) {
        throw new RowanError('WIRE_INVALID', `node ${ref.position} of level ${ref.level} is outside the image`)
      }
      if (!this.#queue(nodeKey(frame.handle, ref.level, ref.position), priority, false)) refused.push(ref)
    }
    if (refused.length > 0) this.#frames.send(nodesFrame(frame.handle, [], refused))
    this.#components.work()
  }

  #grant(bytes: number): void {
    this.outgoing.grant(bytes)
    this.#components.work()
  }

  #release(handle: number): void {
    const isOfIt = (key: number) => itemOf(key).image === handle
    this.#images.get(handle)?.end()
    if (!this.#images.delete(handle)) this.#unknown.delete(handle)
    // The handle may be given to another image, which has other blocks and nodes.
    this.#components.queue.cancelAll(this, isOfIt)
    this.#components.onBehalf.drop(this, isOfIt)
    this.outgoing.dropAll(isOfIt)
    this.#components.work()
  }

  #raise(frame: Frame): void {
    this.#opened(frame.handle)
    const { blocks, nodes, priority } = readRaise(frame)
    const { queue, onBehalf } = this.#components
    for (const block of blocks) {
      const key = blockKey(frame.handle, block)
      queue.raise(this, key, priority)
      onBehalf.raise(this, key, priority)
      if (priority === DEMAND) this.outgoing.raise(key)
    }
    for (const { level, position } of nodes) queue.raise(this, nodeKey(frame.handle, level, position), priority)
    this.#components.work()
  }

  #cancel(frame: Frame): void {
    this.#opened(frame.handle)
    const { queue, onBehalf } = this.#components
    const cancelled = readCancel(frame).filter(block => {
      const key = blockKey(frame.handle, block)
      return queue.cancel(this, key) || onBehalf.cancel(this, key) || this.outgoing.drop(key)
    })
    if (cancelled.length === 0) return
    this.#frames.send(missingFrame(frame.handle, cancelled, 'cancelled'))
    this.#components.work()
  }

  #fetchOnBehalf(key: number, image: LocalImage, what: { block: number; rank: Rank; job: UploadJob }): boolean {
    const helper = this.#components.helperOf(this, image.id)
    return helper !== undefined && this.#components.onBehalf.take(this, key, helper, what)
  }

  #queue(key: number, rank: Rank, acceptZstd: boolean): boolean {
    return this.#components.queue.add(this, key, rank, { acceptZstd })
  }

  /** @returns undefined for an image that is not here */
  #opened(handle: number): ToldImage | undefined {
    const open = this.#images.get(handle)
    if (open === undefined && !this.#unknown.has(handle)) {
      throw new RowanError('WIRE_INVALID', `handle ${handle} is not open`)
    }
    return open
  }
}

function isNotHere(image: LocalImage, block: number): boolean {
  const where = image.locate(block)
  return where === ABSENT || where === UNKNOWN
}
