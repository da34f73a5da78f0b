/**
 * A machine's disk, served by a thread of its own, as the main thread sees it.
 *
 * The thread (disk-worker.ts) has the disk and its NBD server; here are its start, its end, and the calls to it. What the
 * disk needs of the pool and the swarm goes through block-desk.ts.
 *
 * **When the thread dies** (an exception, no memory) it is as if the daemon were killed, for one machine: what it had
 * acknowledged is in the page cache and in the layer's log, which is replayed when the disk is opened again under the same
 * boot id. `onDied` tells; whoever has the machine opens it again. The pool's slots that it may have been reading
 * are let go of when it has left, not before.
 *
 * **When the host's disk does not answer** (a dying one, a file server that is away) a sync never ends, and neither would the end
 * of the thread: no thread can be ended within a call of the system. So `close` answers in a bounded time, with DISK_STUCK, and goes on
 * behind it: nobody else may open the layers before `left`. Nothing is lost meanwhile: what was acknowledged is in the page
 * cache and in the log. Nothing is cut off either, since a sync that is only slow is the guest's data on its way to the disk.
 */
import type { Worker } from 'node:worker_threads'
import { inTime } from '../deadline.ts'
import type { Snapshot, SnapshotRequest } from '../disk/chain.ts'
import type { TouchSink } from '../disk/first-touches.ts'
import type { Clock } from '../environment.ts'
import { RowanError } from '../errors.ts'
import type { Pool } from '../store/pool.ts'
import { BlockDesk, type BlockDeskComponents } from './block-desk.ts'
import {
  type DiskCall,
  type DiskThreadInput,
  type FromDisk,
  MAX_CALLS,
  OPENING,
  type OpenedDisk,
  type ToDisk
} from './disk-messages.ts'
import { takeNotes } from './disk-notes.ts'
import { unpackError } from './packed-error.ts'
import type { DiskCalls, DiskReport, ServedDiskSettings } from './served-disk.ts'

/** How long a disk may take to tell its numbers before the last ones stand in: its thread waits for a slow store. */
const REPORT_TIMEOUT_MS = 2_000
/** How long one may take to close: requests in flight end in 5 s, and a slow disk takes in a few GB meanwhile. */
export const CLOSE_TIMEOUT_MS = 60_000

export interface DiskThreadComponents extends BlockDeskComponents {
  pool: Pick<Pool, 'readers' | 'readSync' | 'directory'>
  /** Hears of the first touch of each block of the image. */
  touches: TouchSink
  clock: Clock
  bootId: string
  startThread: StartThread
}

/** Starts a thread that makes a DiskWorker of what it is given. */
export type StartThread = (input: DiskThreadInput) => Worker

interface Call {
  resolve(value: unknown): void
  reject(error: RowanError): void
}

export class DiskThread implements DiskCalls {
  readonly readOnly: boolean
  /** Called once, with DISK_DIED, when the thread has ended without having been asked to. */
  onDied: (error: RowanError) => void = () => undefined
  readonly #components: DiskThreadComponents
  readonly #name: string
  readonly #worker: Worker
  readonly #desk: BlockDesk
  readonly #calls = new Map<number, Call>()
  readonly #ended: Promise<void>
  #lastCall = OPENING
  #dataBytes: number | undefined
  #lastReport: DiskReport
  /** The thread is meant to end. */
  #isEnding = false
  #failure: RowanError | undefined
  #closing: Promise<DiskReport> | undefined
  /** One at a time: while the thread waits for its store, they must not take the places of other calls. */
  #reporting: Promise<DiskReport> | undefined

  /** Errors as `ServedDisk.open`, and DISK_DIED; then there is no thread. */
  static async open(components: DiskThreadComponents, settings: ServedDiskSettings): Promise<DiskThread> {
    const disk = new DiskThread(components, settings)
    try {
      const { dataBytes } = (await disk.#answerTo(OPENING)) as OpenedDisk
      disk.#dataBytes = dataBytes
      return disk
    } catch (error) {
      await disk.#end()
      throw error
    }
  }

  private constructor(components: DiskThreadComponents, settings: ServedDiskSettings) {
    this.#components = components
    this.#name = settings.name
    this.readOnly = settings.disk.readOnly
    this.#lastReport = noReport()
    this.#desk = new BlockDesk(components)
    const { pool, bootId } = components
    const { image } = this.#desk
    try {
      const pages = this.#desk.takePages()
      this.#worker = components.startThread({ image, pages, poolFolder: pool.directory, bootId, settings })
    } catch (error) {
      this.#desk.close()
      throw error
    }
    this.#worker.on('message', (message: FromDisk) => this.#take(message))
    this.#worker.on('error', error => {
      this.#failure = new RowanError('DISK_DIED', `the disk of ${this.#name} failed: ${error.message}`, {
        cause: error
      })
    })
    this.#ended = new Promise(resolve => {
      this.#worker.once('exit', status => {
        this.#exited(status)
        resolve()
      })
    })
    this.#desk.open((message, transfer) => this.#worker.postMessage(message, transfer))
  }

  /** Of its data disk; undefined if it has none. */
  get dataBytes(): number | undefined {
    return this.#dataBytes
  }

  /** The last numbers that it told. */
  get lastReport(): DiskReport {
    return this.#lastReport
  }

  serve(): Promise<void> {
    return this.#call('serve')
  }

  snapshot(request: SnapshotRequest): Promise<Snapshot> {
    return this.#call('snapshot', request)
  }

  discard(snapshot: string): Promise<void> {
    return this.#call('discard', snapshot)
  }

  /** The disk's numbers; the last known ones where it does not answer in time, or never again. */
  async report(): Promise<DiskReport> {
    this.#reporting ??= this.#call('report').finally(() => {
      this.#reporting = undefined
    })
    const { clock, log } = this.#components
    try {
      this.#lastReport = await inTime(this.#reporting, clock, REPORT_TIMEOUT_MS, () => this.#stuck('does not answer'))
    } catch (error) {
      log.debug('a disk did not tell its numbers', { disk: this.#name, error })
    }
    return this.#lastReport
  }

  /** See ServedDisk. The thread has left when it is done; DISK_STUCK: not yet, and it can be called again. */
  async close(): Promise<DiskReport> {
    this.#closing ??= this.#close()
    const late = () => this.#stuck(`was not closed within ${CLOSE_TIMEOUT_MS / 1000} s`)
    return await inTime(this.#closing, this.#components.clock, CLOSE_TIMEOUT_MS, late)
  }

  /** The thread is gone, and with it all that it had open. */
  get left(): Promise<void> {
    return this.#ended
  }

  async #close(): Promise<DiskReport> {
    try {
      this.#lastReport = await this.#call('close')
      return this.#lastReport
    } finally {
      await this.#end()
    }
  }

  #stuck(how: string): RowanError {
    return new RowanError(
      'DISK_STUCK',
      `the disk of ${this.#name} ${how}: what it has to write does not get to the disk`
    )
  }

  async #call<Name extends DiskCall>(
    name: Name,
    ...parameters: Parameters<DiskCalls[Name]>
  ): Promise<Awaited<ReturnType<DiskCalls[Name]>>> {
    if (this.#isEnding) throw this.#closed()
    if (this.#failure !== undefined) throw this.#failure
    if (this.#calls.size >= MAX_CALLS && name !== 'close') {
      throw new RowanError('LIMIT_EXCEEDED', `more than ${MAX_CALLS} calls wait for the disk of ${this.#name}`)
    }
    const call = ++this.#lastCall
    const answer = this.#answerTo(call)
    this.#worker.postMessage({ type: 'call', call, name, parameters } satisfies ToDisk)
    return (await answer) as Awaited<ReturnType<DiskCalls[Name]>>
  }

  #answerTo(call: number): Promise<unknown> {
    return new Promise((resolve, reject) => this.#calls.set(call, { resolve, reject }))
  }

  #take(message: FromDisk): void {
    switch (message.type) {
      case 'answer':
        this.#over(message.call)?.resolve(message.value)
        return
      case 'failed':
        this.#over(message.call)?.reject(unpackError(message.error))
        return
      case 'notes':
        takeNotes(this.#components, message, this.#name)
        this.#worker.postMessage({ type: 'notesTaken' } satisfies ToDisk)
        return
      default:
        this.#desk.take(message)
    }
  }

  #over(call: number): Call | undefined {
    const waiting = this.#calls.get(call)
    this.#calls.delete(call)
    return waiting
  }

  /** Ends the thread, which has closed its disk, or could not open it. */
  async #end(): Promise<void> {
    this.#isEnding = true
    await this.#worker.terminate()
    await this.#ended
  }

  #exited(status: number): void {
    this.#desk.close()
    this.#failure ??= new RowanError('DISK_DIED', `the thread of the disk of ${this.#name} ended with ${status}`)
    const error = this.#isEnding ? this.#closed() : this.#failure
    for (const { reject } of this.#calls.values()) reject(error)
    this.#calls.clear()
    if (!this.#isEnding) this.onDied(this.#failure)
  }

  #closed(): RowanError {
    return new RowanError('DISK_CLOSED', `the disk of ${this.#name} is closed`)
  }
}

function noReport(): DiskReport {
  return { fetchedBlocks: 0, waitedMs: 0, longestWaitMs: 0, waitedReads: 0, writtenBytes: 0, clients: 0 }
}
