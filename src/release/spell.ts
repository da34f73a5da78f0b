/** Durations for people: the two largest units, rounded down ("4 d 21 h", "3 min", "12 s"). */

const UNITS: readonly (readonly [string, number])[] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1000]
]

export function spellDuration(ms: number): string {
  for (const [i, [unit, unitMs]] of UNITS.entries()) {
    if (ms < unitMs) continue
    const whole = Math.floor(ms / unitMs)
    const [finer, finerMs] = UNITS[i + 1] ?? []
    const rest = finerMs === undefined ? 0 : Math.floor((ms - whole * unitMs) / finerMs)
    return rest === 0 ? `${whole} ${unit}` : `${whole} ${unit} ${rest} ${finer}`
  }
  return ms < 1 ? '0 s' : 'less than 1 s'
}
