/**
 * What a disk's thread tells the main thread, and nobody waits for: lines of the log, first touches of blocks.
 *
 * They go in batches, one at a time: while the main thread has not taken one, the next is gathered. What does not fit is
 * counted, and the log says how many were lost. A line goes at once; touches are gathered for a moment, because a message
 * to another thread costs more than a read from the page cache.
 */
import type { TouchSink } from '../disk/first-touches.ts'
import type { Clock, Log } from '../environment.ts'
import { type FromDisk, type LogNote, MAX_NOTES, MAX_TOUCHES } from './disk-messages.ts'
import { packError, unpackError } from './packed-error.ts'

type Notes = Extract<FromDisk, { type: 'notes' }>

/** How long a touch waits for others. Short beside a round trip to a replica, which is what is won by an early word. */
export const GATHER_MS = 4

/** In the disk's thread. */
export class DiskNotes implements TouchSink {
  readonly log: Log
  readonly #post: (notes: Notes) => void
  readonly #clock: Pick<Clock, 'after'>
  #lines: LogNote[] = []
  #lostLines = 0
  #touches: Notes['touches'] = []
  #isUnderWay = false
  #isGathering = false

  constructor(post: (notes: Notes) => void, components: { clock: Pick<Clock, 'after'> }) {
    this.#post = post
    this.#clock = components.clock
    const at = (level: LogNote['level']) => (message: string, values?: Record<string, unknown>) =>
      this.#add({ level, message, values: Object.entries(values ?? {}).map(([name, value]) => [name, packed(value)]) })
    this.log = { debug: at('debug'), info: at('info'), warn: at('warn') }
  }

  touched(block: number, sinceAttachMs: number, inBlock: number): void {
    if (this.#touches.length < MAX_TOUCHES) this.#touches.push([block, sinceAttachMs, inBlock])
    if (this.#isUnderWay || this.#isGathering) return
    this.#isGathering = true
    this.#clock.after(GATHER_MS, this.#gathered)
  }

  /** Sends the touches that wait: somebody acts on them now. */
  sendTouches(): void {
    if (this.#touches.length > 0) this.send()
  }

  /** The main thread has taken what was sent. */
  taken(): void {
    this.#isUnderWay = false
    if (this.#lines.length + this.#touches.length + this.#lostLines > 0) this.send()
  }

  /** Sends what there is, whatever is under way. */
  send(): void {
    this.#isUnderWay = true
    this.#post({ type: 'notes', log: this.#lines, lostLines: this.#lostLines, touches: this.#touches })
    this.#lines = []
    this.#lostLines = 0
    this.#touches = []
  }

  readonly #gathered = (): void => {
    this.#isGathering = false
    if (!this.#isUnderWay) this.sendTouches()
  }

  #add(line: LogNote): void {
    if (this.#lines.length >= MAX_NOTES) this.#lostLines++
    else this.#lines.push(line)
    if (!this.#isUnderWay) this.send()
  }
}

/** In the main thread. */
export function takeNotes({ log, touches }: { log: Log; touches: TouchSink }, notes: Notes, disk: string): void {
  for (const [block, sinceAttachMs, inBlock] of notes.touches) touches.touched(block, sinceAttachMs, inBlock)
  for (const { level, message, values } of notes.log) {
    log[level](message, Object.fromEntries(values.map(([name, value]) => [name, unpacked(value)])))
  }
  if (notes.lostLines > 0) log.warn('lines of the log were lost', { disk, lines: notes.lostLines })
}

interface PackedValue {
  error: ReturnType<typeof packError>
}

/** Errors keep their codes; what cannot be sent becomes text. */
function packed(value: unknown): unknown {
  if (value instanceof Error) return { error: packError(value) } satisfies PackedValue
  if (typeof value !== 'object' || value === null) return typeof value === 'function' ? value.name : value
  return JSON.stringify(value, (_key, inner) => (typeof inner === 'bigint' ? String(inner) : inner))
}

function unpacked(value: unknown): unknown {
  return typeof value === 'object' && value !== null ? unpackError((value as PackedValue).error) : value
}
