/**
 * What the system keeps of files in memory.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { RowanError } from './errors.ts'

const execFileAsync = promisify(execFile)

/** What dd is asked for a file; of /dev/null it does nothing, if it knows how. */
export function forgetArguments(path: string): string[] {
  return [`if=${path}`, 'of=/dev/null', 'iflag=nocache', 'count=0', 'status=none']
}

/**
 * Has the system forget what it has of a file in its cache, where that may differ from the disk; what is still to be written stays.
 * With GNU dd: Node has no posix_fadvise. TOOL_MISSING where it cannot be asked.
 */
export async function forgetCached(path: string): Promise<void> {
  try {
    await execFileAsync('dd', forgetArguments(path))
  } catch (error) {
    throw new RowanError('TOOL_MISSING', `the cache of ${path} cannot be forgotten`, { cause: error })
  }
}
