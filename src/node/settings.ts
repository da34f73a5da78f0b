/**
 * A peer's settings, read from its configuration file as the table says (settings-table.ts).
 *
 * A setting's value is written in the file as its kind says; in code it carries its unit in its name:
 * `[directory] latestTtl = "7d"` becomes `settings.directory.latestTtlMs`.
 */
import { readFileSync } from 'node:fs'
import { parse, TomlError } from 'smol-toml'
import { RowanError } from '../errors.ts'
import { nearest } from './nearest.ts'
import { DEFAULTS, type Setting } from './settings-table.ts'
import { parseDuration, parseRate, parseSize } from './units.ts'

/** A list of addresses longer than this is a mistake. */
const MAX_LIST_ENTRIES = 64

type Defaults = typeof DEFAULTS
type ValueOf<S> = S extends { kind: 'list' }
  ? string[]
  : S extends { kind: 'path' }
    ? string
    : S extends { kind: 'flag' }
      ? boolean
      : S extends { choices: readonly (infer Choice)[] }
        ? Choice
        : number
type NameWithUnit<Name extends string, S> = S extends { kind: 'duration' }
  ? `${Name}Ms`
  : S extends { kind: 'size' }
    ? `${Name}Bytes`
    : S extends { kind: 'rate' }
      ? `${Name}BytesPerSecond`
      : Name

/** Settings as the code uses them: durations in ms, sizes in bytes, rates in bytes a second (Infinity: no limit). */
export type Settings = {
  [Section in keyof Defaults]: {
    [Name in keyof Defaults[Section] as NameWithUnit<Name & string, Defaults[Section][Name]>]: ValueOf<
      Defaults[Section][Name]
    >
  }
}

const UNIT: Partial<Record<Setting['kind'], string>> = { duration: 'Ms', size: 'Bytes', rate: 'BytesPerSecond' }
const TABLE: Record<string, Record<string, Setting>> = DEFAULTS

/** Every setting as it stands without a configuration file. */
export function defaultSettings(): Settings {
  return settingsFrom({}, 'the defaults')
}

/**
 * Reads a configuration file.
 *
 * @param file - its path
 * @param options - `optional`: a file that does not exist gives the defaults
 * @throws RowanError CONFIG_INVALID, naming the file and the key
 */
export function loadSettings(file: string, options: { optional: boolean }): Settings {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    // A home that is a file has none either; whoever makes the home says so.
    const isMissing = ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')
    if (options.optional && isMissing) return defaultSettings()
    throw new RowanError('CONFIG_INVALID', `cannot read ${file}: ${(error as Error).message}`, { cause: error })
  }
  return parseSettings(text, file)
}

/**
 * @param text - TOML
 * @param file - how to call it in errors
 * @throws RowanError CONFIG_INVALID
 */
export function parseSettings(text: string, file: string): Settings {
  let document: Record<string, unknown>
  try {
    document = parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const says = error.message.split('\n')[0]!.replace(/^Invalid TOML document: /, '')
    throw new RowanError('CONFIG_INVALID', `${file}, line ${error.line}: ${says}`, { cause: error })
  }
  return settingsFrom(document, file)
}

function settingsFrom(document: Record<string, unknown>, file: string): Settings {
  for (const [section, entries] of Object.entries(document)) {
    if (typeof entries !== 'object' || entries === null || Array.isArray(entries)) throw unknownKey([section], file)
    if (!Object.hasOwn(TABLE, section)) throw unknownKey([section, ...Object.keys(entries).slice(0, 1)], file)
    for (const name of Object.keys(entries)) {
      if (!Object.hasOwn(TABLE[section]!, name)) throw unknownKey([section, name], file)
    }
  }
  const result: Record<string, Record<string, unknown>> = {}
  for (const [section, settings] of Object.entries(TABLE)) {
    const given = (document[section] ?? {}) as Record<string, unknown>
    result[section] = {}
    for (const [name, setting] of Object.entries(settings)) {
      const value = Object.hasOwn(given, name) ? given[name] : setting.default
      result[section][`${name}${UNIT[setting.kind] ?? ''}`] = readValue(setting, value, `[${section}] ${name}`, file)
    }
  }
  return result as Settings
}

/** The value of one setting in the code's units; CONFIG_INVALID names the key. */
function readValue(setting: Setting, value: unknown, key: string, file: string): unknown {
  const wrong = (says: string) => new RowanError('CONFIG_INVALID', `${file}: ${key}: ${says}`)
  switch (setting.kind) {
    case 'duration':
    case 'size':
    case 'rate': {
      const example = typeof setting.default === 'string' ? setting.default : ''
      if (typeof value !== 'string') {
        throw wrong(`${shown(value)} is not a text with a unit; write a ${setting.kind} like "${example}"`)
      }
      const read = { duration: parseDuration, size: parseSize, rate: parseRate }[setting.kind]
      let amount: number
      try {
        amount = read(value)
      } catch (error) {
        if (!(error instanceof TypeError)) throw error
        throw wrong(error.message)
      }
      const { longest } = setting
      if (longest === undefined || amount <= parseDuration(longest)) return amount
      throw wrong(`"${value}" is longer than "${longest}", the longest that other peers take`)
    }
    case 'count': {
      const { min = 0, max = Number.MAX_SAFE_INTEGER } = setting
      if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value
      throw wrong(`${shown(value)} is not a whole number from ${min} to ${max}`)
    }
    case 'list':
      if (!Array.isArray(value) || !value.every(entry => typeof entry === 'string' && entry !== '')) {
        throw wrong(`${shown(value)} is not a list of texts like ["…", "…"]`)
      }
      if (value.length > MAX_LIST_ENTRIES) throw wrong(`has ${value.length} entries, more than ${MAX_LIST_ENTRIES}`)
      return [...value]
    case 'path':
      if (typeof value === 'string' && value !== '') return value
      throw wrong(`${shown(value)} is not a path`)
    case 'flag':
      if (typeof value === 'boolean') return value
      throw wrong(`${shown(value)} is neither true nor false`)
    case 'choice':
      if (setting.choices!.includes(value as string)) return value
      throw wrong(`${shown(value)} is not one of ${setting.choices!.map(choice => `"${choice}"`).join(', ')}`)
  }
}

function shown(value: unknown): string {
  return typeof value === 'bigint' ? String(value) : JSON.stringify(value)
}

function unknownKey(path: string[], file: string): RowanError {
  const name = path.length === 1 ? path[0]! : `[${path[0]}] ${path[1]}`
  const known = Object.entries(TABLE).flatMap(([section, settings]) =>
    Object.keys(settings).map(key => ({ section, key }))
  )
  // A key outside any section is compared with the keys alone, so that `quota = …` finds `[pool] quota`.
  const best = nearest(path.join('.'), known, ({ section, key }) => (path.length === 1 ? key : `${section}.${key}`))
  return new RowanError(
    'CONFIG_INVALID',
    `${file}: unknown key ${name}; the nearest known one is [${best.section}] ${best.key}`
  )
}
