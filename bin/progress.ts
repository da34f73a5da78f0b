/**
 * How far a command is: a bar that redraws itself on a terminal, a line for every ten per cent elsewhere.
 */
import type { Progress } from '../src/node/command-results.ts'
import { formatDuration, formatSize } from '../src/node/units.ts'

const BAR_CELLS = 30
const REDRAW_MS = 100
/** An estimate from less than this is a guess. */
const MIN_ESTIMATE_MS = 2000

export class ProgressView {
  readonly #write: (text: string) => void
  readonly #terminal: boolean
  #phase = ''
  #phaseStartedMs = 0
  #drawnMs = 0
  #tenths = -1
  #isDrawn = false

  constructor(output: { isTTY?: boolean; write(text: string): unknown } = process.stderr) {
    this.#write = text => void output.write(text)
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
      const cells = Math.round(fraction * BAR_CELLS)
      const bar = '█'.repeat(cells) + '░'.repeat(BAR_CELLS - cells)
      const left = this.#left(fraction, nowMs - this.#phaseStartedMs)
      this.#write(`\r\x1b[K${progress.phase}  ${bar}  ${Math.floor(fraction * 100)} %  ${amount(progress)}${left}`)
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

function amount({ done, of, unit }: Progress): string {
  if (unit === 'percent') return ''
  if (unit === 'bytes') return `${formatSize(done)} of ${formatSize(of)}`
  return `${done} of ${of} blocks`
}
