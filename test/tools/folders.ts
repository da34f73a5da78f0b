/**
 * Temporary folders of a test, removed when it is over. Their paths are short, because sockets lie in them.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const made = new Set<string>()

export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rw-'))
  made.add(folder)
  return folder
}

/** For afterEach or afterAll, behind `endProcesses`. */
export async function removeFolders(): Promise<void> {
  for (const folder of made) await rm(folder, { recursive: true, force: true })
  made.clear()
}
