/**
 * What the system keeps of files in memory.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { asRowanError } from './errors.ts'

const execFileAsync = promisify(execFile)

/**
 * Has the system forget what it has of a file in its cache, where that may differ from the disk; what is still to be written stays.
 * With GNU dd: Node has no posix_fadvise. STORE_IO where that is missing.
 */
export async function forgetCached(path: string): Promise<void> {
  try {
    await execFileAsync('dd', [`if=${path}`, 'of=/dev/null', 'iflag=nocache', 'count=0', 'status=none'])
  } catch (error) {
    throw asRowanError(error, 'STORE_IO', `forget what is cached of ${path}`)
  }
}
