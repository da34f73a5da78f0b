/**
 * The folders of machines: each is there as a whole, or not at all, also after a crash.
 *
 * A new one is made aside (`.new-NAME`) and renamed when it is whole; one that is removed is renamed first
 * (`.gone-NAME`). What a crash leaves under such a name is swept away at the next start; no machine's name begins with
 * a dot.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { asRowanError, RowanError } from '../errors.ts'
import { type MachineDescription, writeDescription } from './description.ts'

/**
 * The names of all machines, in order; sweeps away what a crash left.
 *
 * @throws RowanError HOME_UNUSABLE
 */
export function findMachines(root: string): string[] {
  try {
    mkdirSync(root, { recursive: true, mode: 0o700 })
    const names = readdirSync(root, { withFileTypes: true }).filter(entry => entry.isDirectory())
    const left = names.filter(({ name }) => name.startsWith('.'))
    for (const { name } of left) rmSync(join(root, name), { recursive: true, force: true })
    return names
      .map(({ name }) => name)
      .filter(name => !name.startsWith('.'))
      .sort()
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

/** @throws RowanError STORE_IO; the machine is gone once its folder was renamed, even if that could not be emptied */
export function removeMachineFolder(root: string, name: string): void {
  const folder = join(root, name)
  const aside = join(root, `.gone-${name}`)
  try {
    rmSync(aside, { recursive: true, force: true })
    renameSync(folder, aside)
    syncFolder(root)
    rmSync(aside, { recursive: true, force: true })
  } catch (error) {
    // Somebody removed it by hand: that is what was wanted.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw new RowanError('STORE_IO', `cannot remove ${folder}: ${(error as Error).message}`, { cause: error })
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
