/**
 * Small checks of what came in from outside, which also give the values their types.
 *
 * A schema is a table of fields; `check` returns an object of exactly these fields or throws REQUEST_INVALID with the
 * field's name. Unknown fields are refused: a misspelt option must not be ignored.
 */
import { RowanError } from '../errors.ts'

/** Longest text in a request: a path (4,096 bytes on Linux) fits. */
export const MAX_TEXT_CHARS = 4096
/** Most labels of a release; what one of them may hold is the release's to check. */
const MAX_RECORD_ENTRIES = 256
/** Longest list of texts. */
const MAX_LIST_ENTRIES = 64

/** Gives the value back, typed, or throws a TypeError that says what was expected. */
export type Check<T> = (value: unknown) => T
export interface Optional<T> {
  readonly optional: Check<T>
}
export type Schema = Record<string, Check<unknown> | Optional<unknown>>

type OptionalKeys<S> = { [K in keyof S]: S[K] extends Optional<unknown> ? K : never }[keyof S]
/** The type of the values that pass a schema. */
export type Checked<S> = {
  [K in Exclude<keyof S, OptionalKeys<S>>]: S[K] extends Check<infer T> ? T : never
} & { [K in OptionalKeys<S>]?: S[K] extends Optional<infer T> ? T : never }

export const text: Check<string> = value => {
  if (typeof value === 'string' && value !== '' && value.length <= MAX_TEXT_CHARS) return value
  throw new TypeError(`a text of 1 to ${MAX_TEXT_CHARS} characters`)
}

export const flag: Check<boolean> = value => {
  if (typeof value === 'boolean') return value
  throw new TypeError('true or false')
}

export const wholeNumber: Check<number> = value => {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value
  throw new TypeError('a whole number')
}

export const texts: Check<string[]> = value => {
  if (Array.isArray(value) && value.length <= MAX_LIST_ENTRIES) return value.map(text)
  throw new TypeError(`a list of up to ${MAX_LIST_ENTRIES} texts`)
}

export const labels: Check<Record<string, string>> = value => {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const entries = Object.entries(value)
    const fit = entries.length <= MAX_RECORD_ENTRIES && entries.every(([, each]) => typeof each === 'string')
    if (fit) return value as Record<string, string>
  }
  throw new TypeError('an object of texts')
}

export function optional<T>(check: Check<T>): Optional<T> {
  return { optional: check }
}

/**
 * @param what - whose parameters these are, for the error
 * @throws RowanError REQUEST_INVALID
 */
export function check<S extends Schema>(schema: S, value: unknown, what: string): Checked<S> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new RowanError('REQUEST_INVALID', `${what}: the parameters must be a JSON object`)
  }
  for (const name of Object.keys(value)) {
    if (!Object.hasOwn(schema, name)) throw new RowanError('REQUEST_INVALID', `${what}: unknown parameter "${name}"`)
  }
  const result: Record<string, unknown> = {}
  for (const [name, rule] of Object.entries(schema)) {
    const given = Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined
    if (given === undefined && typeof rule === 'object') continue
    try {
      result[name] = (typeof rule === 'object' ? rule.optional : rule)(given)
    } catch (error) {
      if (!(error instanceof TypeError)) throw error
      throw new RowanError('REQUEST_INVALID', `${what}: "${name}" must be ${error.message}`, { cause: error })
    }
  }
  return result as Checked<S>
}
