/**
 * An empty page cache, for all that is compared alike.
 */
import { execFile } from 'node:child_process'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

/**
 * Drops the page cache: of the whole machine where that is allowed (root), else of all files in a folder, through GNU
 * dd's POSIX_FADV_DONTNEED.
 */
export async function dropPageCache(folder: string): Promise<void> {
  const run = promisify(execFile)
  await run('sync')
  try {
    await writeFile('/proc/sys/vm/drop_caches', '1')
  } catch (error) {
    if (!['EACCES', 'EPERM', 'EROFS', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue
      await run('dd', [`if=${join(entry.parentPath, entry.name)}`, 'iflag=nocache', 'count=0', 'status=none'])
    }
  }
}
