/**
 * Images and names that cannot be published: one clear line each, and the store works on.
 */
import { mkdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ControlClient } from '../../src/node/control-client.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { type CommandResult, errorCode, Peer } from '../tools/peers.ts'
import { endProcesses, runOk } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'

let folder: string
let peer: Peer

beforeAll(async () => {
  folder = await temporaryFolder()
  peer = await Peer.start()
  await makeTinyAppliance(join(folder, 'good.raw'))
})

afterAll(async () => {
  await endProcesses()
  await removeFolders()
})

/** The command fails with this code and status, and the store still takes and knows an image. */
async function expectRefused(result: CommandResult, code: string, status: number, says: RegExp): Promise<void> {
  expect(errorCode(result)).toBe(code)
  expect(result.status).toBe(status)
  expect(result.stderr).toMatch(says)
  expect(result.stdout).toBe('')
  const again = await peer.json(['publish', join(folder, 'good.raw'), 'good@v1'])
  expect(again.blocks).toBe(256)
}

const inFolder = (name: string) => join(folder, name)

test('a missing file', async () => {
  const result = await peer.run(['publish', inFolder('nowhere.raw'), 'grid@v1'])
  await expectRefused(result, 'IMAGE_NOT_FOUND', 1, /nowhere\.raw/)
})

test('an empty file', async () => {
  await writeFile(inFolder('empty.raw'), '')
  await expectRefused(await peer.run(['publish', inFolder('empty.raw'), 'grid@v1']), 'IMAGE_EMPTY', 1, /empty\.raw/)
})

test('a directory', async () => {
  await mkdir(inFolder('folder.raw'))
  await expectRefused(
    await peer.run(['publish', inFolder('folder.raw'), 'grid@v1']),
    'IMAGE_NOT_A_FILE',
    1,
    /folder\.raw/
  )
})

test('a file that may not be read', async () => {
  await writeFile(inFolder('secret.raw'), 'x'.repeat(4096), { mode: 0o000 })
  // Root reads everything, unless it gives that up.
  const through = process.getuid?.() === 0 ? ['setpriv', '--inh-caps=-all', '--bounding-set=-all'] : []
  const mortal = await Peer.start({ through })
  const result = await mortal.run(['publish', inFolder('secret.raw'), 'grid@v1'])
  expect(errorCode(result)).toBe('IMAGE_UNREADABLE')
  expect(result.status).toBe(1)
  expect(result.stderr).toContain('secret.raw')
  await mortal.stop()
})

test('a file that shrinks while it is hashed', async () => {
  const path = inFolder('shrinks.raw')
  await runOk('dd', ['if=/dev/urandom', `of=${path}`, 'bs=1M', 'count=768', 'status=none'])
  let shrunk: Promise<void> | undefined
  const publishing = new ControlClient(peer.ready.control).call(
    'publish',
    { path, name: 'grid', version: 'v1' },
    {
      onProgress: () => {
        shrunk ??= truncate(path, 1024 * 1024)
      }
    }
  )
  await expect(publishing).rejects.toMatchObject({ code: 'IMAGE_CHANGED', message: expect.stringContaining(path) })
  await shrunk
  expect((await peer.json(['publish', inFolder('good.raw'), 'good@v1'])).blocks).toBe(256)
})

test('a qcow2 image with a backing file', async () => {
  await runOk('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-b',
    inFolder('good.raw'),
    '-F',
    'raw',
    inFolder('top.qcow2')
  ])
  await expectRefused(
    await peer.run(['publish', inFolder('top.qcow2'), 'grid@v1']),
    'IMAGE_HAS_BACKING',
    1,
    /good\.raw/
  )
})

test.each([
  ['Grid@v1'],
  ['-grid@v1'],
  ['grid@V1'],
  ['grid@v 1'],
  [`${'g'.repeat(65)}@v1`],
  [`grid@${'1'.repeat(65)}`],
  ['../grid@v1']
])('the name %s', async name => {
  const result = await peer.run(['publish', inFolder('good.raw'), '--', name])
  expect(['NAME_INVALID', 'APPLIANCE_REF_INVALID']).toContain(errorCode(result))
  expect(result.status).toBe(2)
  expect((await peer.json(['publish', inFolder('good.raw'), 'good@v1'])).blocks).toBe(256)
})

test('a version that exists with other content is refused; the same content again is no change', async () => {
  const first = await peer.json(['publish', inFolder('good.raw'), 'grid@v1'])
  const again = await peer.json(['publish', inFolder('good.raw'), 'grid@v1'])
  expect(again).toMatchObject({ image: first.image, newBlocks: 0 })
  await makeTinyAppliance(inFolder('other.raw'), { seed: 9 })
  const result = await peer.run(['publish', inFolder('other.raw'), 'grid@v1'])
  await expectRefused(result, 'RELEASE_EXISTS', 1, /grid@v1|v1/)
  const releases = await peer.json(['releases', 'grid'])
  expect(releases.map(({ image }) => image)).toEqual([first.image])
})

test('a rollout that is no percentage', async () => {
  const result = await peer.run(['publish', inFolder('good.raw'), 'grid@v9', '--rollout', '250'])
  expect(result.status).toBe(2)
  expect(['CHANNEL_INVALID', 'USAGE']).toContain(errorCode(result))
})

test('an appliance that nobody knows: how long it looked and whom it asked', async () => {
  const other = await Peer.start({ bootstrap: [peer] })
  const result = await other.run(['attach', `${other.publisher}/nothing`, '--as', 'm'])
  expect(errorCode(result)).toBe('APPLIANCE_UNKNOWN')
  expect(result.status).toBe(1)
  expect(result.stderr).toMatch(/\d+(\.\d+)? ?m?s/)
  expect(result.stderr).toMatch(/\d+ peers?|12D3KooW/)
  expect((await other.json(['status'])).machines).toEqual([])
})
