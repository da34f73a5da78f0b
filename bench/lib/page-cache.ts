/**
 * An empty page cache, or a full one, for all that is compared alike.
 */
import { execFile } from 'node:child_process'
import { readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/**
 * Drops the page cache: of the whole machine where that is allowed (root), else of all files in a folder, through GNU
 * dd's POSIX_FADV_DONTNEED.
 */
export async function dropPageCache(folder: string): Promise<void> {
  await run('sync')
  try {
    await writeFile('/proc/sys/vm/drop_caches', '1')
  } catch (error) {
    if (!['EACCES', 'EPERM', 'EROFS', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    for (const file of await filesIn(folder)) {
      await run('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none'])
    }
  }
}

/**
 * Reads all files in a folder once, so that their bytes are in the page cache, whatever was dropped before. A sparse file
 * that is mostly holes is a new overlay: the cache would be filled with zeros that nobody reads, and writes were slower.
 */
export async function fillPageCache(folder: string): Promise<void> {
  for (const file of await filesIn(folder)) {
    const { size, blocks } = await stat(file)
    if (blocks * 512 < size / 2) continue
    await run('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M', 'status=none'])
  }
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
}
