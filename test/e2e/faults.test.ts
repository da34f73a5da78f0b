/**
 * What peers and their hosts do to each other without meaning harm: all replicas gone for a while, clocks that are wrong.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test } from 'vitest'
import { BLOCK_SIZE_BYTES } from '../../src/cluster.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { NbdClient } from '../tools/nbd-client.ts'
import { Peer } from '../tools/peers.ts'
import { endProcesses } from '../tools/processes.ts'
import { waitUntil } from '../tools/wait.ts'

const BLOCKS = 64
const GONE_MS = 20_000
const SHIFT = fileURLToPath(new URL('../tools/shifted-clock.ts', import.meta.url))
const DAY_MS = 24 * 60 * 60_000

afterEach(async () => {
  await endProcesses()
  await removeFolders()
})

const block = (n: number) => Buffer.alloc(BLOCK_SIZE_BYTES, `block ${n} `)

async function sampleImage(): Promise<string> {
  const path = join(await temporaryFolder(), 'image.raw')
  await writeFile(path, Buffer.concat(Array.from({ length: BLOCKS }, (_, n) => block(n))))
  return path
}

async function attach(peer: Peer, appliance: string): Promise<NbdClient> {
  const { uri } = await peer.json(['attach', appliance, '--as', 'm'])
  return await NbdClient.open(new URL(uri).searchParams.get('socket')!, 'm')
}

test('all replicas gone for 20 s: the guest waits, status says so, and it goes on when one is back', async () => {
  const publisher = await Peer.start()
  const grid = `${publisher.publisher}/grid`
  await publisher.json(['publish', await sampleImage(), 'grid@v1'])
  const volunteer = await Peer.start({ bootstrap: [publisher] })
  const disk = await attach(volunteer, grid)
  expect(await disk.bytes(0, BLOCK_SIZE_BYTES)).toEqual(block(0))
  disk.answerTimeoutMs = 90_000
  const before = (await volunteer.json(['status'])).machines[0]!.waited

  await publisher.kill()
  const offset = (BLOCKS - 1) * BLOCK_SIZE_BYTES
  let answered = false
  const read = disk.bytes(offset, BLOCK_SIZE_BYTES).finally(() => {
    answered = true
  })
  await sleep(GONE_MS / 2)
  expect(answered).toBe(false)
  const during = (await volunteer.json(['status'])).machines[0]!.waited
  expect(during.reads).toBe(before.reads + 1)
  expect(during.seconds - before.seconds).toBeGreaterThan(GONE_MS / 2000 - 1)
  await sleep(GONE_MS / 2 - 2_000)

  await publisher.up()
  const backMs = performance.now()
  await waitUntil('the read to be answered', () => answered, { details: () => volunteer.process.tail() })
  expect(await read).toEqual(block(BLOCKS - 1))
  // Calls are made with growing pauses, a few seconds by now.
  expect(performance.now() - backMs).toBeLessThan(30_000)
  const after = (await volunteer.json(['status'])).machines[0]!.waited
  expect(after.longestMs).toBeGreaterThan(GONE_MS - 4_000)
  disk.destroy()
})

describe('a clock that is a day off', () => {
  const shifted = (ms: number) => ({ NODE_OPTIONS: `--import=${SHIFT}`, ROWAN_TEST_CLOCK_MS: String(ms) })

  for (const [what, ms] of [
    ['ahead', DAY_MS],
    ['behind', -DAY_MS]
  ] as const) {
    test(`${what}, at a volunteer: it boots all the same`, async () => {
      const publisher = await Peer.start()
      const grid = `${publisher.publisher}/grid`
      await publisher.json(['publish', await sampleImage(), 'grid@v1'])
      const volunteer = await Peer.start({ bootstrap: [publisher], env: shifted(ms) })
      const disk = await attach(volunteer, grid)
      expect(await disk.bytes(5 * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES)).toEqual(block(5))
      disk.destroy()
    })

    test(`${what}, at a replica: others are served by those whose clocks are right, and by it`, async () => {
      const publisher = await Peer.start()
      const grid = `${publisher.publisher}/grid`
      await publisher.json(['publish', await sampleImage(), 'grid@v1'])
      const wrong = await Peer.start({ bootstrap: [publisher], env: shifted(ms) })
      await wrong.json(['replicate', grid, '--wait'])
      const volunteer = await Peer.start({ bootstrap: [publisher] })
      const disk = await attach(volunteer, grid)
      for (let n = 0; n < BLOCKS; n++) {
        expect(await disk.bytes(n * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES)).toEqual(block(n))
      }
      disk.destroy()
    })
  }
})
