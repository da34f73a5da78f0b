/**
 * Keeps `HOME/compiled`, the compiled code of commands and disks' threads, from growing for ever.
 *
 * Node makes a folder in it for each of its versions, and in that a file for each module, at the module's path. So what earlier
 * versions of Node left is removed, and all of it where an installation that moved from place to place has left too much. It is a
 * cache: what is missing is compiled again.
 */
import { lstat, readdir, rm } from 'node:fs/promises'
import { getCompileCacheDir } from 'node:module'
import { basename, join } from 'node:path'

/** A version of rowan takes 8 MB. */
export const MAX_COMPILED_BYTES = 64 * 1024 * 1024

/** @param inUse - of this process: the name of its folder in the other one; undefined if it uses none of it */
export async function pruneCompiled(folder: string, inUse = folderInUse(folder)): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name)
    if (name !== inUse && inUse !== undefined) await rm(path, { recursive: true, force: true })
    else if ((await takenBytes(path)) > MAX_COMPILED_BYTES) await rm(path, { recursive: true, force: true })
  }
}

function folderInUse(folder: string): string | undefined {
  const path = getCompileCacheDir()
  return path?.startsWith(join(folder, '/')) === true ? basename(path) : undefined
}

async function takenBytes(folder: string): Promise<number> {
  let sum = 0
  for (const name of await readdir(folder).catch(() => [])) sum += (await lstat(join(folder, name))).size
  return sum
}
