/**
 * One requester, at the serving side: its stream from the greeting to the end, and what it hears of the images that it opened.
 *
 * Messages are taken apart here. What they ask for is asked-items.ts; what their handles mean, opened-images.ts. Whether the requester is
 * served at all, the server says (block-server.ts), once it is known which image is wanted.
 *
 * An image that is not here is told to be nothing yet; when it comes, the requester hears of it unasked, as of blocks that come and go.
 */

import { asRowanError, RowanError } from '../errors.ts'
import { toHex } from '../image/hash.ts'
import type { LocalImage } from '../store/images.ts'
import { AskedItems, type AskedItemsComponents } from './asked-items.ts'
import { type FrameCarrier, FrameStream } from './frame-stream.ts'
import { FRAME, type Frame, frameName } from './frames.ts'
import { Greeting, type RecordExchange } from './greeting.ts'
import { eagerNodes } from './index-nodes.ts'
import { imageFrame, OPEN_INDEX, readOpen, readProblem } from './messages.ts'
import type { FetchedOnBehalf } from './on-behalf.ts'
import { OpenedImages } from './opened-images.ts'

export interface RequesterComponents
  extends Pick<AskedItemsComponents, 'queue' | 'onBehalf' | 'spent' | 'work' | 'log'> {
  images: { open(id: string): Promise<LocalImage | undefined> }
  records: RecordExchange | undefined
  /** The boot profile that a requester of this image is given. */
  profileOf(image: string): Uint8Array | undefined
  /** An image that this process has open. */
  openedImage(id: string): LocalImage | undefined
  /** Who fetches blocks of this image for this requester, if anybody does. */
  helperOf(requester: ServedRequester, image: string): FetchedOnBehalf | undefined
  /** Asks for a place among those served, for a requester of this image; false when it was sent away. */
  admit(requester: ServedRequester, image: string): boolean
  /** A block or a node was sent to it. */
  gave(requester: ServedRequester): void
  /** Resolves when the upload rate has something left. */
  rateAllows(): Promise<void>
  ended(requester: ServedRequester): void
}

/** Images that a requester may open without waiting for the upload rate: an answer carries 32 KiB of index, and a start is in a hurry. */
const HASTY_OPENS = 8
const NOTHING = new Uint8Array(0)

export class ServedRequester {
  readonly peer: string
  /** On the local network. */
  readonly isNear: boolean
  readonly asked: AskedItems
  readonly #components: RequesterComponents
  readonly #frames: FrameStream
  readonly #greeting: Greeting
  readonly #images = new OpenedImages()
  #opens = 0

  constructor(who: { peer: string; isNear: boolean }, stream: FrameCarrier, components: RequesterComponents) {
    const { peer } = who
    const { queue, onBehalf, spent, work, log } = components
    this.peer = peer
    this.isNear = who.isNear
    this.#components = components
    this.#greeting = new Greeting(peer, components.records, log)
    this.#frames = new FrameStream(stream, 'requester', {
      onFrame: frame => this.#handle(frame),
      onWritable: () => work(),
      onEnd: error => {
        if (error !== undefined) {
          log.debug('a requester is gone', { peer, code: error.code, message: error.message })
        }
        this.#images.releaseAll()
        components.ended(this)
      }
    })
    this.asked = new AskedItems({
      ...{ frames: this.#frames, images: this.#images, queue, onBehalf, spent, work, log },
      helperOf: image => components.helperOf(this, image),
      gave: () => components.gave(this)
    })
  }

  /** Bytes that its stream has not taken. */
  get unsentBytes(): number {
    return this.#frames.unsentBytes
  }

  send(frame: Uint8Array): void {
    this.#frames.send(frame)
  }

  end(error?: RowanError): void {
    this.#frames.end(error)
  }

  noteStored(id: string, block: number): void {
    this.#images.stored(id, block)
  }

  noteLost(id: string, pages: readonly number[]): void {
    this.#images.lost(id, pages)
  }

  /** An image came here: whoever asked for it before, and did not give it up, gets its answer. */
  noteOpened(image: LocalImage): void {
    this.#orEnd(() => {
      for (const { handle, index } of this.#images.came(image.id)) this.#answerOpen(handle, image, index)
    })
  }

  /** Tells what came, and what went, since the last time, and whether it is helped. */
  tellNews(): void {
    this.#orEnd(() => {
      for (const frame of this.#images.news()) this.#frames.send(frame)
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
        this.#images.release(frame.handle)
        this.asked.release(frame.handle)
        return
      case FRAME.getNodes:
        this.asked.getNodes(frame)
        return
      case FRAME.want:
        this.asked.want(frame)
        return
      case FRAME.credit:
        this.asked.grant(frame.number)
        return
      case FRAME.raise:
        this.asked.raise(frame)
        return
      case FRAME.cancel:
        this.asked.cancel(frame)
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
    this.#images.check(handle)
    const id = toHex(idBytes)
    if (!this.#components.admit(this, id)) return
    if (++this.#opens > HASTY_OPENS) await this.#components.rateAllows()
    const found = await this.#components.images.open(id)
    if (this.#frames.ended) return
    // It may have come while it was looked for.
    const image = found ?? this.#components.openedImage(id)
    if (image === undefined) {
      this.#images.awaits(handle, { id, index })
      this.#frames.send(imageFrame(handle, { root: NOTHING, top: NOTHING, complete: false, follow: 0 }))
      return
    }
    this.#answerOpen(handle, image, index)
  }

  #answerOpen(handle: number, image: LocalImage, index: number): void {
    const told = this.#images.open(handle, image, () => this.#components.helperOf(this, image.id) !== undefined)
    const nodes = index === OPEN_INDEX.all ? eagerNodes(image) : []
    const top = image.nodeBytes(image.root.height, 0) ?? NOTHING
    const { rootBytes: root } = image
    const profile = this.#components.profileOf(image.id)
    this.asked.sendIndex(imageFrame(handle, { root, top, complete: told.complete, follow: nodes.length, profile }))
    if (!told.complete) for (const frame of told.all()) this.#frames.send(frame)
    this.asked.follow(handle, nodes)
  }
}
