/** Commands keep their compiled code in the home, and run none that others may have written. */
import { chmodSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { ROWAN } from '../../tools/peers.ts'
import { run } from '../../tools/processes.ts'

afterAll(removeFolders)

/** @returns what was compiled by a command that finds its home's folder with this mode */
async function compiledWith(mode: number): Promise<string[]> {
  const home = await temporaryFolder()
  const compiled = join(home, 'compiled')
  mkdirSync(compiled)
  chmodSync(compiled, mode)
  // A cache that the tests keep for themselves would come first.
  const env = { ...process.env, NODE_COMPILE_CACHE: undefined }
  const { status } = await run(ROWAN, ['status', '--home', home], { env })
  expect(status).toBe(1)
  return readdirSync(compiled, { recursive: true }).map(String)
}

test('a command keeps its compiled code in the folder that the daemon has made', async () => {
  expect((await compiledWith(0o700)).length).toBeGreaterThan(10)
})

test('not in one that others may write to', async () => {
  expect(await compiledWith(0o777)).toEqual([])
})
