/**
 * Versions that nobody uses any more go, and no others: peers that come, leave and die, watched from outside.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import type { GcResult } from '../../src/node/command-results.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { errorCode, Peer } from '../tools/peers.ts'
import { endProcesses, run } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { waitUntil } from '../tools/wait.ts'

const BLOCK_BYTES = 64 * 1024
const SHARER_TTL_MS = 4_000
/** Longer than it takes to look at it twice, on a machine that has much else to do. */
const KEEP_TTL_MS = 24_000
const GRACE_MS = 3_000
/** Of the policy: twice the TTL is longer than the grace. */
const WINDOW_MS = 2 * SHARER_TTL_MS
/** v2 has so many blocks that v1 does not have, and the other way round: changed ones, and the boot sector. */
const OWN_BLOCKS = 11
const config = `[directory]
sharerTtl = "${SHARER_TTL_MS}ms"
keepTtl = "${KEEP_TTL_MS}ms"
[gc]
grace = "${GRACE_MS}ms"
`

afterEach(async () => {
  await endProcesses()
  await removeFolders()
})

async function images(): Promise<{ v1: string; v2: string }> {
  const folder = await temporaryFolder()
  const [v1, v2] = [join(folder, 'v1.raw'), join(folder, 'v2.raw')]
  await makeTinyAppliance(v1, { version: 'v1' })
  await makeTinyAppliance(v2, { version: 'v2', changedBlocks: OWN_BLOCKS - 1 })
  return { v1, v2 }
}

async function rowOf(peer: Peer, appliance: string, version: string) {
  return (await peer.json(['releases', appliance])).find(row => row.version === version)
}

async function counted(peer: Peer, appliance: string, version: string, count: number | null): Promise<void> {
  let last: unknown
  await waitUntil(
    `${count} sharers of ${version}`,
    async () => {
      last = (await rowOf(peer, appliance, version))?.sharers.count
      return last === count
    },
    { details: () => `${last}\n${peer.log.slice(-2000)}` }
  )
}

/** `rowan gc` again and again, until it has removed the version. */
async function collected(peer: Peer, version: string, timeoutMs: number) {
  const reasons = new Set<string>()
  let removed: GcResult['removed'][number] | undefined
  let trash: GcResult['trash'] = []
  await waitUntil(
    `${version} to be collected`,
    async () => {
      const answer = await gc(peer)
      trash = answer.trash
      removed = answer.removed.find(each => each.version === version)
      for (const kept of answer.kept.filter(each => each.version === version)) {
        for (const { code } of kept.reasons) reasons.add(code)
      }
      return removed !== undefined
    },
    { timeoutMs, details: () => `${[...reasons]}\n${peer.log.slice(-2000)}` }
  )
  return { ...removed!, trash }
}

const gc = (peer: Peer, ...args: string[]) => peer.json(['gc', ...args])

async function reasonsOf(peer: Peer, version: string): Promise<string[]> {
  const { kept } = await gc(peer, '--dry-run')
  return kept.find(each => each.version === version)!.reasons.map(({ code }) => code)
}

/** SHA-256 of a whole disk, as an NBD client reads it. */
async function diskHash(uri: string): Promise<string> {
  const file = join(await temporaryFolder(), 'disk.raw')
  const copied = await run('nbdcopy', [uri, file], { timeoutMs: 60_000 })
  expect(copied.stderr).toBe('')
  return await fileHash(file)
}

async function fileHash(file: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex')
}

test('a version is kept while anybody may use it, and goes when nobody does', async () => {
  const { v1, v2 } = await images()
  const publisher = await Peer.start({ config })
  await publisher.json(['publish', v1, 'grid@v1'])
  const grid = `${publisher.publisher}/grid`
  const others = await Promise.all(Array.from({ length: 7 }, () => Peer.start({ config, bootstrap: [publisher] })))
  const [one, crashing, sleeping, replica, first, second, third] = others as [Peer, Peer, Peer, Peer, Peer, Peer, Peer]
  await publisher.joined(7)

  // The count rises, and falls when one dies.
  await Promise.all([
    one.json(['attach', grid, '--as', 'm', '--read-only']),
    crashing.json(['attach', grid, '--as', 'm', '--read-only']),
    sleeping.json(['attach', grid, '--as', 'm']),
    replica.json(['replicate', grid, '--wait'])
  ])
  await counted(publisher, grid, 'v1', 3)
  await crashing.kill()
  await counted(publisher, grid, 'v1', 2)

  // Nothing but the machine of a computer that is switched off keeps it now.
  await publisher.json(['publish', v2, 'grid@v2'])
  await one.json(['remove', 'm', '--yes'])
  await counted(publisher, grid, 'v1', 1)
  expect(await reasonsOf(publisher, 'v1')).toContain('in-use')
  const asleepSince = performance.now()
  await sleeping.kill()

  // Five of eight are a majority. Four are not: then nothing is known, and nothing goes, however long it takes.
  await first.kill()
  expect((await rowOf(publisher, grid, 'v1'))!.sharers).toEqual({ count: 1, exact: true })
  expect(await reasonsOf(publisher, 'v1')).toContain('in-use')
  await second.kill()
  await counted(publisher, grid, 'v1', null)
  while (performance.now() - asleepSince < KEEP_TTL_MS + WINDOW_MS) expect((await gc(publisher)).removed).toEqual([])
  expect(await reasonsOf(publisher, 'v1')).toEqual(['no-majority'])
  expect(await rowOf(publisher, grid, 'v1')).toMatchObject({ sharers: { count: null } })

  await Promise.all([first.up(), second.up()])
  const before = (await publisher.json(['status'])).pool.bytes
  const { freedBytes, trash } = await collected(publisher, 'v1', 60_000)
  expect(trash).toMatchObject([{ version: 'v1' }])
  expect(freedBytes).toBe(OWN_BLOCKS * BLOCK_BYTES)
  expect(await rowOf(third, grid, 'v1')).toBeUndefined()
  expect(await reasonsOf(publisher, 'v2')).toContain('channel')

  // The blocks stay for one TTL; then they are gone here, and at whoever replicated it.
  await waitUntil('v1’s blocks to go', async () => (await publisher.json(['status'])).pool.bytes < before, {
    details: () => publisher.log.slice(-2000)
  })
  expect((await publisher.json(['status'])).pool.bytes).toBe(before - freedBytes)
  await waitUntil(
    'the replica to let go',
    async () => {
      const { replicating, pool } = await replica.json(['status'])
      return replicating.length === 0 && pool.blocks === 0
    },
    { details: () => replica.log.slice(-2000) }
  )
  // What v2 shares with it is all there.
  const fresh = await third.json(['attach', `${grid}@v2`, '--as', 'm', '--read-only'])
  expect(await diskHash(fresh.uri)).toBe(await fileHash(v2))
})

test('whoever has a version open keeps it, whatever its publisher does, and what was interrupted goes on', async () => {
  const { v1, v2 } = await images()
  const publisher = await Peer.start({ config })
  await publisher.json(['publish', v1, 'grid@v1'])
  const grid = `${publisher.publisher}/grid`
  const user = await Peer.start({ config, bootstrap: [publisher] })
  const { uri } = await user.json(['attach', grid, '--as', 'm'])
  expect(await diskHash(uri)).toBe(await fileHash(v1))
  await publisher.json(['publish', v2, 'grid@v2'])
  await counted(publisher, grid, 'v1', 1)
  const { pool } = await publisher.json(['status'])

  // What a channel points at stays, and what a machine here is of.
  expect(errorCode(await publisher.run(['gc', '--force', 'v2']))).toBe('RELEASE_NEEDED')
  expect(errorCode(await publisher.run(['gc', '--force', 'v9']))).toBe('VERSION_UNKNOWN')
  await publisher.json(['attach', 'grid@v1', '--as', 'mine', '--read-only'])
  expect(errorCode(await publisher.run(['gc', '--force', 'grid@v1']))).toBe('RELEASE_NEEDED')
  await publisher.json(['remove', 'mine', '--yes'])

  const plan = await gc(publisher, '--dry-run', '--force', 'v1')
  expect(plan.removed).toMatchObject([{ version: 'v1', forced: true, freedBytes: OWN_BLOCKS * BLOCK_BYTES }])
  expect(await rowOf(publisher, grid, 'v1')).toBeDefined()
  const { removed, freedBytes } = await gc(publisher, '--force', 'v1')
  expect(removed).toEqual(plan.removed)
  expect(freedBytes).toBe(plan.freedBytes)
  expect(await rowOf(user, grid, 'v1')).toBeUndefined()

  // Killed before the blocks are gone: they go after the next start.
  await publisher.kill()
  await publisher.up()
  await waitUntil('the blocks to go', async () => (await publisher.json(['status'])).pool.bytes < pool.bytes, {
    details: () => publisher.log.slice(-2000)
  })
  expect((await publisher.json(['status'])).pool.bytes).toBe(pool.bytes - freedBytes)
  expect((await gc(publisher)).trash).toEqual([])

  expect(await diskHash(uri)).toBe(await fileHash(v1))
  await publisher.stop()
  await user.stop()
  await user.up()
  const again = await user.json(['attach', grid, '--as', 'm'])
  expect(again.version).toBe('v1')
  expect(await diskHash(again.uri)).toBe(await fileHash(v1))
})

test('a publisher that is set to it collects by itself', async () => {
  const { v1, v2 } = await images()
  const publisher = await Peer.start({
    config: '[directory]\nsharerTtl = "1500ms"\n[gc]\ngrace = "1s"\nautomatic = true\n'
  })
  await publisher.json(['publish', v1, 'grid@v1'])
  await publisher.json(['publish', v2, 'grid@v2'])
  await waitUntil('v1 to be gone', async () => (await rowOf(publisher, 'grid', 'v1')) === undefined, {
    details: () => publisher.log.slice(-2000)
  })
  expect(await rowOf(publisher, 'grid', 'v2')).toMatchObject({ collection: { action: 'keep' } })
})
