/**
 * The folders of machines: each is there as a whole, or not at all, also after a crash.
 *
 * A new one is made aside (`.new-NAME`) and renamed when it is whole; one that is removed is renamed first
 * (`.gone-NAME.NUMBER`). What a crash leaves under such a name is swept away at the next start; no machine's name begins
 * with a dot.
 *
 * Deleting goes through the thread pool: unlinking a layer with 1.5 GB of scattered writes took 26 s on ext4, during
 * which no other guest would have had an answer.
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { asRowanError, RowanError } from '../errors.ts'
import { type MachineDescription, writeDescription } from './description.ts'

/**
 * The names of all machines, in order, and the folders of removed ones that a crash left, to be deleted.
 *
 * @throws RowanError HOME_UNUSABLE
 */
export function findMachines(root: string): { names: string[]; removed: string[] } {
  try {
    mkdirSync(root, { recursive: true, mode: 0o700 })
    const folders = readdirSync(root, { withFileTypes: true }).filter(entry => entry.isDirectory())
    const names = folders.map(({ name }) => name).sort()
    const unfinished = names.filter(name => name.startsWith('.new-'))
    // There is nothing but a description in them.
    for (const name of unfinished) rmSync(join(root, name), { recursive: true, force: true })
    const removed = names.filter(name => name.startsWith('.gone-')).map(name => join(root, name))
    return { names: names.filter(name => !name.startsWith('.')), removed }
  } catch (error) {
    throw asRowanError(error, 'HOME_UNUSABLE', root)
  }
}

/** @throws RowanError DISK_FULL, STORE_IO; then there is no folder */
export async function makeMachineFolder(root: string, description: MachineDescription): Promise<string> {
  const folder = join(root, description.name)
  const aside = join(root, `.new-${description.name}`)
  try {
    rmSync(aside, { recursive: true, force: true })
    mkdirSync(aside, { recursive: true, mode: 0o700 })
    await writeDescription(aside, description)
    renameSync(aside, folder)
    syncFolder(root)
    return folder
  } catch (error) {
    rmSync(aside, { recursive: true, force: true })
    throw asRowanError(error, 'STORE_IO', `cannot make ${folder}`)
  }
}

/**
 * Puts a machine's folder aside: the machine is gone, also after power loss.
 *
 * @returns the folder that is to be deleted; undefined when somebody removed it by hand
 * @throws RowanError STORE_IO; then the machine is still there
 */
export function putMachineFolderAside(root: string, name: string): string | undefined {
  const folder = join(root, name)
  let number = 0
  // Those of earlier machines of this name may still be being deleted.
  while (existsSync(join(root, `.gone-${name}.${number}`))) number++
  const aside = join(root, `.gone-${name}.${number}`)
  try {
    renameSync(folder, aside)
    syncFolder(root)
    return aside
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new RowanError('STORE_IO', `cannot remove ${folder}: ${(error as Error).message}`, { cause: error })
  }
}

/** Deletes what was put aside. @throws RowanError STORE_IO; it is tried again at the next start */
export async function deleteFolder(path: string | undefined): Promise<void> {
  if (path === undefined) return
  try {
    await rm(path, { recursive: true, force: true })
  } catch (error) {
    throw asRowanError(error, 'STORE_IO', `cannot delete ${path}`)
  }
}

/** A rename survives power loss once the folder around it was synced. */
function syncFolder(path: string): void {
  if (process.platform === 'win32') return
  const file = openSync(path, 'r')
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}
