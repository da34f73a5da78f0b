/**
 * What the demo says while it works: steps, and a bar for what takes long.
 *
 * On a terminal the bar is redrawn in place; elsewhere (a pipe, a CI log) it prints a line now and then.
 */
const BAR_WIDTH = 30
const REDRAW_MS = 100
const LINE_EVERY_MS = 10_000

export function formatBytes(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`
  if (bytes >= 1e3) return `${(bytes / 1e3).toFixed(1)} kB`
  return `${bytes} B`
}

export function formatSeconds(ms: number): string {
  const seconds = ms / 1000
  return seconds < 100 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`
}

/** A headline; the bars and lines of the step follow it. */
export function step(text: string): void {
  console.log(`\n${process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text}`)
}

export function say(text: string): void {
  console.log(`  ${text}`)
}

export class Bar {
  readonly #started = performance.now()
  #drawnMs = Number.NEGATIVE_INFINITY

  /**
   * @param fraction - how much is done, 0 to 1; an estimate is held below 1 until `end`
   * @param detail - what a person sees beside the bar
   */
  update(fraction: number, detail: string): void {
    const now = performance.now()
    if (now - this.#drawnMs < (process.stdout.isTTY ? REDRAW_MS : LINE_EVERY_MS)) return
    this.#drawnMs = now
    this.#draw(Math.min(0.99, Math.max(0, fraction)), detail)
  }

  /** The last line of the bar, full, with the time that it took. */
  end(detail: string): void {
    this.#draw(1, `${detail}, ${formatSeconds(performance.now() - this.#started)}`)
    if (process.stdout.isTTY) process.stdout.write('\n')
  }

  /** Leaves the bar where it is: what was going on has failed. */
  break(): void {
    if (process.stdout.isTTY) process.stdout.write('\n')
  }

  #draw(fraction: number, detail: string): void {
    const full = Math.round(fraction * BAR_WIDTH)
    const percent = `${Math.floor(fraction * 100)}`.padStart(3)
    const line = `  [${'█'.repeat(full)}${'░'.repeat(BAR_WIDTH - full)}] ${percent} %  ${detail}`
    if (!process.stdout.isTTY) console.log(line)
    else process.stdout.write(`\r\x1b[K${line.slice(0, (process.stdout.columns ?? 100) - 1)}`)
  }
}
