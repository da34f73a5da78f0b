/**
 * `npm run demo`, with an image of one's own: what it reports, and that nothing of it stays.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'
import { hashFile } from '../tools/files.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { endProcesses, run, start } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'

const DEMO = fileURLToPath(new URL('../../examples/demo.ts', import.meta.url))

afterEach(async () => {
  await endProcesses()
  await removeFolders()
})

/** Processes whose command line names the folder. */
function processesOf(folder: string): string[] {
  const pids = readdirSync('/proc').filter(name => /^\d+$/.test(name))
  return pids.map(commandLine).filter(text => text.includes(folder))
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ')
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return '' // gone meanwhile
    throw error
  }
}

test('ends with a report, an unchanged image and no process left', async () => {
  const folder = await temporaryFolder()
  const image = join(folder, 'disk.raw')
  await makeTinyAppliance(image, { sizeBytes: 32 * 1024 * 1024, writes: 2000 })
  const before = await hashFile(image)
  const demo = await run(process.execPath, [DEMO, '--image', image, '--folder', join(folder, 'd')], {
    timeoutMs: 300_000
  })
  expect(demo.status, demo.stdout + demo.stderr).toBe(0)
  expect(demo.stdout).toMatch(/ready after \d+\.\d s/)
  expect(demo.stdout).toMatch(/Fetched +\d+ blocks, \d+\.\d MB \(\d+\.\d MB on the wire\): \d+\.\d % of the disk/)
  const sources = [...demo.stdout.matchAll(/(\d+) blocks, +\S+ \S+ +from the (publisher|replica)/g)]
  expect(sources.map(([, , role]) => role)).toEqual(['publisher', 'replica'])
  const [, fetched] = demo.stdout.match(/Fetched +(\d+) blocks/)!
  expect(sources.reduce((sum, [, blocks]) => sum + Number(blocks), 0)).toBe(Number(fetched))
  expect(Number(fetched)).toBeGreaterThan(0)
  expect(demo.stdout).toMatch(/Written +1\.\d MB by the guest/)
  expect(readFileSync(join(folder, 'd/console.log'), 'latin1')).toContain('APPLIANCE-WORK')
  expect(await hashFile(image)).toBe(before)
  expect(processesOf(folder)).toEqual([])
})

test('Ctrl-C in the middle ends every process', async () => {
  const folder = await temporaryFolder()
  const image = join(folder, 'disk.raw')
  await makeTinyAppliance(image, { writes: 0xffffffff })
  const demo = start(process.execPath, [DEMO, '--image', image, '--folder', join(folder, 'd')])
  await demo.waitForOutput(/rowan .* run worker/, { timeoutMs: 120_000 })
  expect(await demo.stop('SIGINT')).toEqual({ status: 130, signal: null })
  expect(processesOf(folder)).toEqual([])
})

test('says what is wrong with an image that is not there, and fails', async () => {
  const demo = await run(process.execPath, [DEMO, '--image', '/nowhere/disk.raw'])
  expect(demo.status).toBe(1)
  expect(demo.stderr).toContain('there is no image /nowhere/disk.raw')
})
