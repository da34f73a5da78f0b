/**
 * Durations, sizes and rates as a person writes them: "1h30m", "50GB", "10Mbit". In code they are numbers with their
 * unit in their name (`ttlMs`, `quotaBytes`, `maxUploadBytesPerSecond`).
 *
 * The parsers throw a plain TypeError that says what is wrong; the caller knows the key and puts the code on it.
 */

const DURATION_MS: Record<string, number> = {
  w: 7 * 86_400_000,
  d: 86_400_000,
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1
}
const SIZE_BYTES: Record<string, number> = {
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4
}
const RATE_BYTES_PER_SECOND: Record<string, number> = {
  bit: 1 / 8,
  kbit: 1e3 / 8,
  Mbit: 1e6 / 8,
  Gbit: 1e9 / 8,
  'kB/s': 1e3,
  'MB/s': 1e6,
  'GB/s': 1e9
}

/** The word for "no limit" where a size or a rate may be without one. */
const UNLIMITED = 'unlimited'

/**
 * @param text - like "30m", "7d" or "1h30m"; units w, d, h, m, s, ms, each at most once, larger before smaller
 * @returns milliseconds, above zero
 */
export function parseDuration(text: string): number {
  const wrong = () => new TypeError(`"${text}" is not a duration; write it like "90s", "30m", "1h30m" or "7d"`)
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|[wdhms])/g)]
  if (parts.length === 0 || parts.map(part => part[0]).join('') !== text) throw wrong()
  let totalMs = 0
  let previousMs = Number.POSITIVE_INFINITY
  for (const [, count, unit] of parts) {
    const unitMs = DURATION_MS[unit!]!
    if (unitMs >= previousMs) throw wrong()
    previousMs = unitMs
    totalMs += Number(count) * unitMs
  }
  totalMs = Math.round(totalMs)
  if (totalMs < 1 || !Number.isSafeInteger(totalMs)) throw wrong()
  return totalMs
}

/**
 * @param text - like "50GB" (10^9 bytes each), "64GiB" (2^30 each) or "unlimited"
 * @returns bytes; Infinity for "unlimited"
 */
export function parseSize(text: string): number {
  return parseQuantity(text, SIZE_BYTES, 'a size; write it like "500MB", "50GB", "64GiB" or "unlimited"')
}

/**
 * @param text - like "10Mbit" (10^6 bits a second each), "1.5MB/s" or "unlimited"
 * @returns bytes a second; Infinity for "unlimited"
 */
export function parseRate(text: string): number {
  return parseQuantity(text, RATE_BYTES_PER_SECOND, 'a rate; write it like "500kbit", "10Mbit", "2MB/s" or "unlimited"')
}

function parseQuantity(text: string, units: Record<string, number>, expected: string): number {
  if (text === UNLIMITED) return Number.POSITIVE_INFINITY
  const match = /^(\d+(?:\.\d+)?) ?([A-Za-z/]+)$/.exec(text)
  const unit = match === null || !Object.hasOwn(units, match[2]!) ? undefined : units[match[2]!]
  const value = unit === undefined ? 0 : Math.round(Number(match![1]) * unit)
  if (value < 1 || !Number.isSafeInteger(value)) throw new TypeError(`"${text}" is not ${expected}`)
  return value
}

/** The two largest units of a duration: "1h 30m", "2.4s", "350ms". For people; not meant to be parsed. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)}ms`
  if (ms < 60_000) return `${trimmed(ms / 1000)}s`
  const units = ['w', 'd', 'h', 'm', 's'].map(unit => ({ unit, unitMs: DURATION_MS[unit]! }))
  let leftMs = Math.round(ms / 1000) * 1000
  const parts: string[] = []
  for (const { unit, unitMs } of units) {
    const count = Math.floor(leftMs / unitMs)
    leftMs -= count * unitMs
    if (count > 0) parts.push(`${count}${unit}`)
    else if (parts.length > 0) break
    if (parts.length === 2) break
  }
  return parts.join(' ')
}

/** Bytes in decimal units: "643 MB", "1.5 GB". */
export function formatSize(bytes: number): string {
  if (bytes === Number.POSITIVE_INFINITY) return UNLIMITED
  const names = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
  let value = bytes
  let step = 0
  while (value >= 999.5 && step < names.length - 1) {
    value /= 1000
    step++
  }
  return `${step === 0 ? Math.round(value) : trimmed(value)} ${names[step]}`
}

/** Three digits that count: 1.57 stays, 15.73 becomes 15.7, 157.3 becomes 157. */
function trimmed(value: number): string {
  return String(Number(value.toPrecision(3)))
}
