/**
 * Volunteers of one home, in namespaces, who boot from replicas beyond one narrow line: what crosses that line.
 */
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { HomeNetwork } from '../tools/home-network.ts'
import { NbdClient } from '../tools/nbd-client.ts'
import { needTools } from '../tools/need.ts'
import type { Peer } from '../tools/peers.ts'
import { endProcesses } from '../tools/processes.ts'

const MIB = 1024 * 1024
const BLOCK_BYTES = 65_536
const BLOCKS = 320
const LINE = { rttMs: 60, downMbit: 50 }
/** Together, of what one fetches alone. */
const GOAL = 1.1

afterEach(async () => {
  await endProcesses()
  await removeFolders()
})

/** Reads every block once, a few at a time, in an order that no read-ahead foresees, and the same for everybody. */
async function boot(peer: Peer, appliance: string, image: Buffer, atATime = 2): Promise<void> {
  const { uri } = await peer.json(['attach', appliance, '--as', 'm'])
  const disk = await NbdClient.open(new URL(uri).searchParams.get('socket')!, 'm')
  const order = Array.from({ length: BLOCKS }, (_, n) => (n * 119) % BLOCKS)
  const read = async () => {
    for (let block = order.shift(); block !== undefined; block = order.shift()) {
      const bytes = await disk.bytes(block * BLOCK_BYTES, BLOCK_BYTES)
      expect(Buffer.compare(bytes, image.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES))).toBe(0)
    }
  }
  await Promise.all(Array.from({ length: atATime }, read))
  disk.destroy()
}

async function homeWith(image: Buffer): Promise<HomeNetwork> {
  const home = await HomeNetwork.build({ line: LINE, replicas: 2 })
  const file = join(await temporaryFolder(), 'disk.raw')
  await writeFile(file, image)
  await home.publisher.json(['publish', file, 'grid@v1'])
  await home.complete('v1')
  return home
}

needTools(['unshare', 'nsenter', 'ip', 'tc', 'nft'])('behind one line', () => {
  test('two volunteers who boot in lockstep fetch together hardly more than one alone', async () => {
    const image = randomBytes(((BLOCKS * BLOCK_BYTES) / MIB) * MIB)
    const home = await homeWith(image)
    const fetchedBy = async (count: number) => {
      const volunteers = await home.volunteers(count)
      const before = await home.crossed()
      await Promise.all(volunteers.map(peer => boot(peer, `${home.appliance}@v1`, image)))
      const bytes = (await home.crossed()) - before
      await Promise.all(volunteers.map(peer => peer.stop()))
      return bytes
    }
    const alone = await fetchedBy(1)
    const together = await fetchedBy(2)
    expect(together).toBeLessThan(GOAL * alone)
  })
})
