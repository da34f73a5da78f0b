/**
 * What an NBD client sees of a disk that is not here yet, and how it brings it here: `rowan:local` and CACHE, through a
 * real peer.
 */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { BEHIND_BYTES } from '../../src/disk/behind-writes.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { nbdsh } from '../tools/nbdsh.ts'
import { needTools } from '../tools/need.ts'
import { Peer } from '../tools/peers.ts'
import { endProcesses, runOk } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { waitUntil } from '../tools/wait.ts'

interface Part {
  offset: number
  length: number
  type: number
}

const HERE = 0
const REMOTE = 1

afterAll(async () => {
  await endProcesses()
  await removeFolders()
})

const mapOf = async (uri: string, context: string): Promise<Part[]> =>
  JSON.parse(await runOk('nbdinfo', [`--map=${context}`, '--json', uri]))
/** What is fetched before anything is read (src/swarm/boot-ahead.ts). */
const FRONT_BYTES = 8 * 65_536
const bytesOf = (map: Part[], type: number) =>
  map.filter(part => part.type === type).reduce((sum, { length }) => sum + length, 0)

needTools(['nbdinfo', 'nbdsh', 'nbdcopy'])('a disk that is not here yet', () => {
  test('is told as such, is fetched ahead on request, and then needs no network', async () => {
    const image = join(await temporaryFolder(), 'tiny.raw')
    await makeTinyAppliance(image, { powerOff: true })
    const publisher = await Peer.start()
    const { size } = await publisher.json(['publish', image, 'grid@v1'])
    const volunteer = await Peer.start({ bootstrap: [publisher] })
    const { uri } = await volunteer.json(['attach', `${publisher.publisher}/grid`, '--as', 'm'])

    // Nothing was read, so all that is not zeros is still to be fetched, but for the front, which every boot reads first; what is
    // zeros is known.
    const holes = bytesOf(await mapOf(uri, 'base:allocation'), 3)
    expect(holes).toBeGreaterThan(0)
    await waitUntil(
      'the front of the disk',
      async () => bytesOf(await mapOf(uri, 'rowan:local'), HERE) === holes + FRONT_BYTES
    )
    expect(bytesOf(await mapOf(uri, 'rowan:local'), REMOTE)).toBe(size - holes - FRONT_BYTES)

    const half = Math.floor(size / 131_072) * 65_536
    await nbdsh(['-u', uri, '-c', `h.cache(${half}, 0)`])
    const between = await mapOf(uri, 'rowan:local')
    const remoteBefore = between.filter(part => part.type === REMOTE && part.offset < half)
    expect(remoteBefore).toEqual([])
    expect(bytesOf(between, REMOTE)).toBeGreaterThan(0)

    await nbdsh(['-u', uri, '-c', `h.cache(h.get_size() - ${half}, ${half})`])
    expect(bytesOf(await mapOf(uri, 'rowan:local'), HERE)).toBe(size)
    // No guest has waited for any of it.
    expect((await volunteer.json(['status'])).machines[0]).toMatchObject({ waited: { reads: 0 } })
    await publisher.kill()
    const copy = join(await temporaryFolder(), 'copy.raw')
    await runOk('nbdcopy', [uri, copy])
    await runOk('cmp', [copy, image])
  })

  test('has what lies behind a long write when its guest has left, so that a next start finds it without a network', async () => {
    const image = join(await temporaryFolder(), 'random.raw')
    writeFileSync(image, randomBytes(8 * 1024 * 1024))
    const publisher = await Peer.start()
    await publisher.json(['publish', image, 'random@v1'])
    const volunteer = await Peer.start({ bootstrap: [publisher] })
    const { uri } = await volunteer.json(['attach', `${publisher.publisher}/random`, '--as', 'm'])
    const [at, length] = [4 * 1024 * 1024, 512 * 1024]
    await nbdsh(['-u', uri, '-c', `h.pwrite(b"j" * ${length}, ${at})`])
    const behind = { offset: at + length, end: at + length + BEHIND_BYTES }
    await waitUntil('what lies behind the write', async () => {
      const remote = (await mapOf(uri, 'rowan:local')).filter(part => part.type === REMOTE)
      return !remote.some(part => part.offset < behind.end && part.offset + part.length > behind.offset)
    })
    // And nothing else of the disk, but for its front.
    const remote = bytesOf(await mapOf(uri, 'rowan:local'), REMOTE)
    expect(remote).toBe(8 * 1024 * 1024 - FRONT_BYTES - length - BEHIND_BYTES)
  })
})
