/**
 * Small files that are whole or not there, also after power loss: written aside, synced, renamed, folder synced.
 */
import { constants } from 'node:fs'
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { RowanError } from '../errors.ts'

/** Mode of everything written here: for its owner only. */
const OWNER_ONLY = 0o600

/**
 * Puts `bytes` at `path`, replacing what is there in one step. Only one process may write in the folder at a time.
 *
 * @throws the system's error; the old file is then as it was
 */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const aside = join(dirname(path), `.${basename(path)}.new`)
  await rm(aside, { force: true })
  try {
    await writeNew(aside, bytes)
    await rename(aside, path)
  } catch (error) {
    await rm(aside, { force: true })
    throw error
  }
  await syncFolder(dirname(path))
}

/**
 * Puts `bytes` at `path`, where nothing may be yet; a dangling link counts as something.
 *
 * @throws RowanError FILE_EXISTS, or the system's error (a file begun here is then removed)
 */
export async function createFile(path: string, bytes: Uint8Array): Promise<void> {
  await writeNew(path, bytes)
  await syncFolder(dirname(path))
}

async function writeNew(path: string, bytes: Uint8Array): Promise<void> {
  let file: FileHandle
  try {
    file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, OWNER_ONLY)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    throw new RowanError('FILE_EXISTS', `${path} exists and is not overwritten`, { cause: error })
  }
  try {
    await file.chmod(OWNER_ONLY) // whatever the umask took or left
    await file.writeFile(bytes)
    await file.sync()
  } catch (error) {
    await rm(path, { force: true })
    throw error
  } finally {
    await file.close()
  }
}

/** Makes a rename or a new name in `folder` survive power loss; systems that cannot open a folder do it by themselves. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await open(folder, constants.O_RDONLY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
