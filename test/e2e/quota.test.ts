/**
 * A pool under quota, from outside: what is used stays, what is not makes room, and nobody is told otherwise.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { copyDisk } from '../tools/nbd.ts'
import { Peer } from '../tools/peers.ts'
import { endProcesses } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { waitUntil } from '../tools/wait.ts'

const BLOCK_BYTES = 64 * 1024
const QUOTA_BYTES = 20_000_000
const SMALLER_QUOTA_BYTES = 13_000_000
/** Of each appliance, 16 MiB with a quarter of zeros, none shared: two do not fit into the quota. */
const DATA_BLOCKS = 192

describe('a volunteer with a small quota', () => {
  let folder: string
  let publisher: Peer
  let volunteer: Peer
  const uris = new Map<string, string>()
  /** Replicas of an image that only the publisher has. */
  let alone = 0

  beforeAll(async () => {
    folder = await temporaryFolder()
    publisher = await Peer.start()
    for (const [index, name] of ['one', 'two', 'three'].entries()) {
      await makeTinyAppliance(join(folder, `${name}.raw`), { seed: index + 1, version: `v${index + 1}` })
      await publisher.json(['publish', join(folder, `${name}.raw`), `${name}@v1`])
    }
    volunteer = await Peer.start({ bootstrap: [publisher], config: `[pool]\nquota = "${QUOTA_BYTES / 1e6}MB"\n` })
  })

  afterAll(async () => {
    await endProcesses()
    await removeFolders()
  })

  const pool = async () => (await volunteer.json(['status'])).pool
  const machine = async (name: string) => (await volunteer.json(['status'])).machines.find(each => each.name === name)!

  /** The whole disk of a machine, read through NBD, is the file that was published. */
  async function expectWhole(name: string): Promise<void> {
    const copy = join(folder, 'copy.raw')
    await copyDisk(uris.get(name)!, copy)
    expect((await readFile(copy)).equals(await readFile(join(folder, `${name}.raw`)))).toBe(true)
  }

  async function attach(name: string): Promise<void> {
    const { uri } = await volunteer.json(['attach', `${publisher.publisher}/${name}`, '--as', name])
    uris.set(name, uri)
  }

  const replicas = async (name: string) => (await publisher.json(['releases', name]))[0]!.replicas

  test('the image of a machine is pinned, and announced', async () => {
    alone = await replicas('one')
    await attach('one')
    await expectWhole('one')
    const { blocks, pinnedBytes, quotaBytes } = await pool()
    expect(quotaBytes).toBe(QUOTA_BYTES)
    expect(blocks).toBe(DATA_BLOCKS)
    expect(pinnedBytes).toBe(DATA_BLOCKS * BLOCK_BYTES)
    await waitUntil('the announcement', async () => (await replicas('one')) === alone + 1)
  })

  test('what nobody needs any more makes room for what is read', async () => {
    await volunteer.json(['remove', 'one', '--yes'])
    await attach('two')
    await expectWhole('two')
    const { bytes } = await pool()
    expect(bytes).toBeLessThanOrEqual(QUOTA_BYTES)
    const { local } = await machine('two')
    expect(local).toEqual({ blocks: DATA_BLOCKS, of: DATA_BLOCKS })
    await waitUntil('the count of pinned bytes', async () => (await pool()).pinnedBytes === DATA_BLOCKS * BLOCK_BYTES)
  })

  test('where pinned blocks fill the quota, a guest still gets its blocks, and they are not kept', async () => {
    await attach('three')
    await expectWhole('three')
    await expectWhole('three')
    const { bytes, blocks } = await pool()
    expect(bytes).toBeLessThanOrEqual(QUOTA_BYTES)
    const [two, three] = [await machine('two'), await machine('three')]
    expect(two.local.blocks).toBe(DATA_BLOCKS)
    expect(three.local.blocks).toBe(blocks - DATA_BLOCKS)
    expect(three.local.blocks).toBeLessThan(DATA_BLOCKS)
    // What could not be kept was fetched twice.
    expect(three.fetched.blocks).toBeGreaterThan(DATA_BLOCKS)
    await expectWhole('two')
  })

  test('an image of which nothing is left is announced no more', async () => {
    expect(await pool().then(({ blocks }) => blocks)).toBe(Math.floor(QUOTA_BYTES / BLOCK_BYTES))
    await waitUntil('the withdrawal', async () => (await replicas('one')) === alone, {
      details: () => volunteer.process.tail()
    })
    expect(await replicas('two')).toBe(alone + 1)
  })

  test('a smaller quota evicts down to it at the next start, and a pinned image is still whole without any peer', async () => {
    await volunteer.json(['remove', 'three', '--yes'])
    await volunteer.stop()
    await writeFile(join(volunteer.home, 'config.toml'), `[pool]\nquota = "${SMALLER_QUOTA_BYTES / 1e6}MB"\n`)
    await volunteer.up()
    await waitUntil('the eviction', async () => (await pool()).bytes <= SMALLER_QUOTA_BYTES, {
      details: () => volunteer.process.tail()
    })
    await publisher.kill()
    expect((await machine('two')).local).toEqual({ blocks: DATA_BLOCKS, of: DATA_BLOCKS })
    await expectWhole('two')
    const text = (await volunteer.run(['status'])).stdout
    expect(text).toMatch(/pool .* of 13 MB, 12\.\d MB pinned/)
  })

  test('publishing makes room, and what it makes is whole', async () => {
    await volunteer.json(['remove', 'two', '--yes'])
    const published = await volunteer.json(['publish', join(folder, 'three.raw'), 'three@v1'])
    expect(published.newBlocks).toBeGreaterThan(0)
    const { uri } = await volunteer.json(['attach', 'three', '--as', 'own'])
    uris.set('three', uri)
    await expectWhole('three')
    expect((await pool()).bytes).toBeLessThanOrEqual(SMALLER_QUOTA_BYTES)
    expect((await machine('own')).local).toEqual({ blocks: DATA_BLOCKS, of: DATA_BLOCKS })
  })
})
