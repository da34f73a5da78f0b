/**
 * The thread of one machine's disk: the disk, its NBD server, and what it needs of the rest of the peer through one port.
 *
 * No libp2p runs here, nothing is hashed or decompressed, and no other machine is served: a read of what is here waits for
 * this thread alone. It imports little, so that it starts fast.
 */
import type { MessagePort } from 'node:worker_threads'
import type { Clock } from '../environment.ts'
import { RowanError } from '../errors.ts'
import type { SharedMemory } from '../nbd/shared-memory.ts'
import { SegmentReader } from '../store/segment-reader.ts'
import { SlotView } from '../store/slot-view.ts'
import { BlockLink } from './block-link.ts'
import {
  type DiskThreadInput,
  type FromDisk,
  OPENING,
  type OpenedDisk,
  type SentPage,
  type ToDisk
} from './disk-messages.ts'
import { DiskNotes } from './disk-notes.ts'
import { packError, unpackError } from './packed-error.ts'
import { type DiskCalls, ServedDisk } from './served-disk.ts'

export class DiskWorker {
  readonly #notes: DiskNotes
  readonly #link: BlockLink
  readonly #image: SlotView
  readonly #pool: SegmentReader
  readonly #clock: Clock
  readonly #memory: SharedMemory | undefined
  readonly #post: (message: FromDisk) => void
  #disk: ServedDisk | undefined

  constructor(port: MessagePort, input: DiskThreadInput, components: { clock: Clock; memory?: SharedMemory }) {
    this.#post = message => port.postMessage(message)
    this.#clock = components.clock
    this.#memory = components.memory
    this.#notes = new DiskNotes(this.#post, components)
    // What was touched tells the read-ahead what to ask for next, which must not be asked for before what this read waits for: all its
    // blocks are wanted in one turn.
    this.#link = new BlockLink(message => {
      this.#post(message)
      queueMicrotask(() => this.#notes.sendTouches())
    })
    this.#image = new SlotView(input.image, block => this.#post({ type: 'suspect', block }))
    this.#pool = new SegmentReader(input.poolFolder)
    this.#addPages(input.pages)
    port.on('message', (message: ToDisk) => this.#take(message))
    void this.#answer(OPENING, () => this.#open(input))
  }

  get log() {
    return this.#notes.log
  }

  async #open({ bootId, settings }: DiskThreadInput): Promise<OpenedDisk> {
    const image = this.#image
    const touches = this.#notes
    const [pool, source, clock, log, memory] = [this.#pool, this.#link, this.#clock, this.log, this.#memory]
    this.#disk = await ServedDisk.open({ image, pool, source, touches, clock, log, bootId, memory }, settings)
    return { dataBytes: this.#disk.dataBytes }
  }

  #take(message: ToDisk): void {
    switch (message.type) {
      case 'pages':
        this.#addPages(message.pages)
        return
      case 'retired':
        for (const segment of message.segments) this.#pool.close(segment)
        this.#pool.afterReads(() => this.#post({ type: 'letGo', epoch: message.epoch }))
        return
      case 'came':
        this.#link.came(message.want, message.obtained)
        return
      case 'notCame':
        this.#link.notCame(message.want, unpackError(message.error))
        return
      case 'notesTaken':
        this.#notes.taken()
        return
      case 'call':
        void this.#answer(message.call, () => this.#call(message.name, message.parameters))
    }
  }

  #addPages(pages: SentPage[]): void {
    for (const { page, slots } of pages) this.#image.add(page, slots)
  }

  async #call(name: keyof DiskCalls, parameters: unknown[]): Promise<unknown> {
    if (this.#disk === undefined) throw new RowanError('DISK_CLOSED', 'the disk is not open')
    // The types of `DiskThread.call` hold the two ends together.
    return await (this.#disk[name] as (...parameters: unknown[]) => Promise<unknown>)(...parameters)
  }

  async #answer(call: number, run: () => Promise<unknown>): Promise<void> {
    let answer: FromDisk
    try {
      answer = { type: 'answer', call, value: await run() }
    } catch (error) {
      answer = { type: 'failed', call, error: packError(error) }
    }
    // What was logged comes before what came of it: the main thread may end this one as soon as it has the answer.
    this.#notes.send()
    this.#post(answer)
  }
}
