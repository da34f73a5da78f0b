/**
 * Volunteers of one home, in namespaces, who boot from replicas beyond one narrow line: what crosses that line.
 */
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { MachineStatus } from '../../src/node/command-results.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { HomeNetwork } from '../tools/home-network.ts'
import { NbdClient } from '../tools/nbd-client.ts'
import { needTools } from '../tools/need.ts'
import type { Peer } from '../tools/peers.ts'
import { endProcesses } from '../tools/processes.ts'
import { waitUntil } from '../tools/wait.ts'

const BLOCK_BYTES = 65_536
const BLOCKS = 320
const LINE = { rttMs: 60, downMbit: 50 }
/** Together, of what one fetches alone. */
const GOAL = 1.1

/** What a guest may wait for one block when its neighbour is gone: time-outs of seconds would show. */
const LONGEST_WAIT_MS = 2_500
const SETUP_TIMEOUT_MS = 120_000

let image: Buffer
let home: HomeNetwork

/** Reads every block once, two at a time, in an order that no read-ahead foresees, and the same for everybody. */
async function boot(peer: Peer): Promise<void> {
  const { uri } = await peer.json(['attach', `${home.appliance}@v1`, '--as', 'm'])
  const disk = await NbdClient.open(new URL(uri).searchParams.get('socket')!, 'm')
  const order = Array.from({ length: BLOCKS }, (_, n) => (n * 119) % BLOCKS)
  const read = async () => {
    for (let block = order.shift(); block !== undefined; block = order.shift()) {
      const bytes = await disk.bytes(block * BLOCK_BYTES, BLOCK_BYTES)
      expect(Buffer.compare(bytes, image.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES))).toBe(0)
    }
  }
  await Promise.all([read(), read()])
  disk.destroy()
}

async function machineOf(peer: Peer): Promise<MachineStatus> {
  return await waitUntil('the machine', async () => (await peer.json(['status'])).machines[0])
}

needTools(['unshare', 'nsenter', 'ip', 'tc', 'nft'])('behind one line', () => {
  beforeAll(async () => {
    home = await HomeNetwork.build({ line: LINE, replicas: 2 })
    image = randomBytes(BLOCKS * BLOCK_BYTES)
    const file = join(await temporaryFolder(), 'disk.raw')
    await writeFile(file, image)
    await home.publisher.json(['publish', file, 'grid@v1'])
    await home.complete('v1')
  }, SETUP_TIMEOUT_MS)

  afterAll(async () => {
    await endProcesses()
    await removeFolders()
  })

  test('two volunteers who boot in lockstep fetch together hardly more than one alone', async () => {
    const fetchedBy = async (count: number) => {
      const volunteers = await home.volunteers(count)
      const before = await home.crossed()
      await Promise.all(volunteers.map(boot))
      const bytes = (await home.crossed()) - before
      await Promise.all(volunteers.map(peer => peer.stop()))
      return bytes
    }
    const alone = await fetchedBy(1)
    const together = await fetchedBy(2)
    expect(together).toBeLessThan(GOAL * alone)
  })

  for (const [what, signal] of [
    ['killed', 'SIGKILL'],
    ['stopped without a word', 'SIGSTOP']
  ] as const) {
    test(`one of two is ${what} in the middle of a boot: the other goes on at once`, async () => {
      const [survivor, victim] = (await home.volunteers(2)) as [Peer, Peer]
      const ends = Promise.allSettled([boot(victim)])
      const booting = boot(survivor)
      await waitUntil('the middle', async () => (await machineOf(survivor)).fetched.blocks > BLOCKS / 3)
      // They give each other blocks, or there is nothing to lose.
      const { exchanging } = await survivor.json(['status'])
      expect(exchanging.map(({ peer }) => peer)).toContain(victim.id)
      victim.process.kill(signal)
      await booting
      const { waited, fetched } = await machineOf(survivor)
      expect(fetched.blocks).toBe(BLOCKS)
      expect(waited.longestMs).toBeLessThan(LONGEST_WAIT_MS)
      await victim.kill()
      await ends
      await survivor.stop()
    })
  }
})
