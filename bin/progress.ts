/**
 * How far a command is: a bar that redraws itself on a terminal, a line for every ten per cent elsewhere.
 */
import type { Progress } from '../src/node/command-results.ts'
import { formatDuration, formatSize } from '../src/node/units.ts'

const BAR_CELLS = 30
/** A bar of fewer tells nothing that the percentage does not. */
const MIN_BAR_CELLS = 5
const REDRAW_MS = 100
/** An estimate from less than this is a guess. */
const MIN_ESTIMATE_MS = 2000

export class ProgressView {
  readonly #write: (text: string) => void
  readonly #terminal: boolean
  /** Read for each line: a window may change its size meanwhile. */
  readonly #columns: () => number
  #phase = ''
  #phaseStartedMs = 0
  #drawnMs = 0
  #tenths = -1
  #isDrawn = false

  constructor(output: { isTTY?: boolean; columns?: number; write(text: string): unknown } = process.stderr) {
    this.#write = text => void output.write(text)
    this.#columns = () => output.columns || Number.POSITIVE_INFINITY
    this.#terminal = output.isTTY === true
  }

  show(progress: Progress): void {
    const nowMs = performance.now()
    if (progress.phase !== this.#phase) {
      this.end()
      this.#phase = progress.phase
      this.#phaseStartedMs = nowMs
      this.#drawnMs = Number.NEGATIVE_INFINITY
      this.#tenths = -1
    }
    const fraction = progress.of === 0 ? 1 : Math.min(1, progress.done / progress.of)
    if (this.#terminal) {
      if (nowMs - this.#drawnMs < REDRAW_MS && fraction < 1) return
      this.#drawnMs = nowMs
      this.#isDrawn = true
      const left = this.#left(fraction, nowMs - this.#phaseStartedMs)
      const words = `${Math.floor(fraction * 100)} %  ${amount(progress)}${left}`
      this.#write(`\r\x1b[K${fitted(progress.phase, fraction, words, this.#columns())}`)
    } else if (Math.floor(fraction * 10) > this.#tenths) {
      this.#tenths = Math.floor(fraction * 10)
      this.#write(
        `${progress.phase}: ${this.#tenths * 10} %${progress.unit === 'percent' ? '' : `, ${amount(progress)}`}\n`
      )
    }
  }

  /** Leaves the last bar where it is. */
  end(): void {
    if (this.#isDrawn) this.#write('\n')
    this.#isDrawn = false
  }

  #left(fraction: number, elapsedMs: number): string {
    if (fraction <= 0 || fraction >= 1 || elapsedMs < MIN_ESTIMATE_MS) return ''
    return `, ${formatDuration((elapsedMs / fraction) * (1 - fraction))} left`
  }
}

/**
 * The line, shorter than the terminal is wide: one that is wrapped cannot be drawn over, and each drawing of it would leave a
 * line behind. The bar gives way first, then the end of the words.
 */
function fitted(phase: string, fraction: number, words: string, columns: number): string {
  const room = columns - 1 - `${phase}    ${words}`.length
  if (room < MIN_BAR_CELLS) return `${phase}  ${words}`.slice(0, Math.max(0, columns - 1)).trimEnd()
  const barCells = Math.min(BAR_CELLS, room)
  const full = Math.round(fraction * barCells)
  return `${phase}  ${'█'.repeat(full)}${'░'.repeat(barCells - full)}  ${words}`
}

function amount({ done, of, unit }: Progress): string {
  if (unit === 'percent') return ''
  if (unit === 'bytes') return `${formatSize(done)} of ${formatSize(of)}`
  return `${done} of ${of} blocks`
}
