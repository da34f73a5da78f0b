/**
 * What LevelDB's errors mean here.
 */
import { asRowanError, RowanError } from '../errors.ts'

/** A failure to open. `level` wraps the reason as the cause of LEVEL_DATABASE_NOT_OPEN. */
export function openError(error: unknown, directory: string): RowanError {
  const reason = error instanceof Error && error.cause !== undefined ? error.cause : error
  const { code, says } = describe(reason)
  const cause = reason
  if (code === 'LEVEL_LOCKED') {
    return new RowanError('HOME_IN_USE', `the catalog in ${directory} is in use by another process`, { cause })
  }
  // The folder itself is there, so a file that is not is one of LevelDB's own.
  if (code === 'LEVEL_CORRUPTION' || /corrupt|CURRENT|missing files|no such file|does not exist/i.test(says)) {
    return new RowanError('CATALOG_CORRUPT', `the catalog in ${directory} cannot be opened: ${says}`, { cause })
  }
  if (isFull(says))
    return new RowanError('DISK_FULL', `the catalog in ${directory} cannot be opened: ${says}`, { cause })
  return asRowanError(reason, 'HOME_UNUSABLE', `the catalog in ${directory} cannot be opened`)
}

/** A failure to read or write. */
export function catalogError(error: unknown, directory: string): RowanError {
  if (error instanceof RowanError) return error
  const { code, says } = describe(error)
  const cause = error
  if (code === 'LEVEL_CORRUPTION') {
    return new RowanError('CATALOG_CORRUPT', `the catalog in ${directory} is damaged: ${says}`, { cause })
  }
  if (isFull(says)) return new RowanError('DISK_FULL', `the catalog in ${directory} cannot grow: ${says}`, { cause })
  return asRowanError(error, 'STORE_IO', `the catalog in ${directory} failed`)
}

function describe(error: unknown): { code: string | undefined; says: string } {
  if (!(error instanceof Error)) return { code: undefined, says: String(error) }
  return { code: 'code' in error ? String(error.code) : undefined, says: error.message }
}

/** LevelDB passes on the system's text, not its number. */
function isFull(says: string): boolean {
  return /no space left|quota exceeded/i.test(says)
}
