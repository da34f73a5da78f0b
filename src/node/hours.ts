/**
 * Hours of the day, as a person writes them: "22:00-07:00", local time.
 *
 * A list of them says when something may happen; an empty list means always. One that ends before it begins goes over midnight.
 */

const MINUTES_OF_DAY = 24 * 60
/** More pieces of a day than this are a mistake. */
const MAX_HOURS = 24

export interface Hours {
  /** Minutes since midnight. */
  from: number
  /** The first minute that is outside. */
  to: number
}

/** @throws TypeError that says what is wrong */
export function parseHours(text: string): Hours {
  const match = /^(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})$/.exec(text)
  const [fromHour = 99, fromMinute = 0, toHour = 99, toMinute = 0] = match?.slice(1).map(Number) ?? []
  const from = fromHour * 60 + fromMinute
  const to = toHour * 60 + toMinute
  const isRight = fromMinute < 60 && toMinute < 60 && from < MINUTES_OF_DAY && to <= MINUTES_OF_DAY && from !== to
  if (!isRight) throw new TypeError(`"${text}" is not a piece of a day; write it like "22:00-07:00"`)
  return { from, to }
}

/** Several, with commas between; "always" or nothing is an empty list. */
export function parseHoursList(text: string): Hours[] {
  if (text === 'always') return []
  const pieces = text.split(',').map(piece => parseHours(piece.trim()))
  if (pieces.length > MAX_HOURS) throw new TypeError(`${pieces.length} pieces of a day, more than ${MAX_HOURS}`)
  return pieces
}

export function formatHours(hours: readonly Hours[]): string {
  const shown = (minute: number) =>
    `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`
  return hours.length === 0 ? 'always' : hours.map(({ from, to }) => `${shown(from)}-${shown(to)}`).join(',')
}

/** @param minute - of the day, local time */
export function isWithin(hours: readonly Hours[], minute: number): boolean {
  if (hours.length === 0) return true
  return hours.some(({ from, to }) => (from < to ? minute >= from && minute < to : minute >= from || minute < to))
}
