/**
 * A second version: who gets it, who does not, and what it costs.
 */
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { debianAppliance, debianCanBeHad } from '../tools/appliance.ts'
import { boot, DISK_TROUBLE } from '../tools/boot.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { Peer } from '../tools/peers.ts'
import { endProcesses } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { waitUntil } from '../tools/wait.ts'

const BLOCK_BYTES = 64 * 1024

afterEach(async () => {
  await endProcesses()
  await removeFolders()
})

test('a new machine gets v2 from the channel, an old machine keeps v1', async () => {
  const folder = await temporaryFolder()
  const [v1, v2] = [join(folder, 'v1.raw'), join(folder, 'v2.raw')]
  await makeTinyAppliance(v1, { version: 'v1' })
  await makeTinyAppliance(v2, { version: 'v2', changedBlocks: 10 })
  const publisher = await Peer.start()
  const volunteer = await Peer.start({ bootstrap: [publisher] })
  const grid = `${publisher.publisher}/grid`

  await publisher.json(['publish', v1, 'grid@v1'])
  const old = await volunteer.json(['attach', `${grid}:stable`, '--as', 'old'])
  expect(old.version).toBe('v1')

  const second = await publisher.json(['publish', v2, 'grid@v2'])
  // Ten changed blocks, and the boot sector with the version in its text.
  expect(second.newBlocks).toBe(11)

  const fresh = await volunteer.json(['attach', `${grid}:stable`, '--as', 'fresh'])
  expect(fresh.version).toBe('v2')
  const still = await volunteer.json(['attach', grid, '--as', 'old'])
  expect(still).toMatchObject({ version: 'v1', image: old.image })

  for (const { uri, version } of [still, fresh]) {
    const guest = boot({ disk: uri })
    await guest.waitFor(new RegExp(`APPLIANCE-READY 0 ${version} boot 00000001`), 60_000)
    await guest.waitFor(/APPLIANCE-WORK/, 60_000)
    expect(guest.console).not.toMatch(DISK_TROUBLE)
    await guest.powerOff()
  }

  // What both versions share was fetched once.
  const { machines } = await volunteer.json(['status'])
  const byName = new Map(machines.map(machine => [machine.name, machine]))
  expect(byName.get('fresh')!.fetched.blocks).toBeLessThanOrEqual(11 + 1)
  const releases = await volunteer.json(['releases', grid])
  expect(releases.find(({ version }) => version === 'v2')).toMatchObject({ channels: ['stable'] })
  expect(releases.find(({ version }) => version === 'v1')).toMatchObject({ channels: [] })
})

test('another version than its own is refused to a machine', async () => {
  const folder = await temporaryFolder()
  const [v1, v2] = [join(folder, 'v1.raw'), join(folder, 'v2.raw')]
  await makeTinyAppliance(v1, { version: 'v1' })
  await makeTinyAppliance(v2, { version: 'v2', changedBlocks: 1 })
  const publisher = await Peer.start()
  await publisher.json(['publish', v1, 'grid@v1'])
  await publisher.json(['publish', v2, 'grid@v2'])
  await publisher.json(['attach', 'grid@v1', '--as', 'm'])
  const refused = await publisher.run(['attach', 'grid@v2', '--as', 'm'])
  expect(refused.status).toBe(1)
  expect(refused.stderr).toMatch(/^error: .*v1.*\[MACHINE_DIFFERS\]$/m)
})

describe.skipIf(!debianCanBeHad())('the upgrade of a Debian disk', () => {
  test('stores only its new blocks', async () => {
    const { v1, v2 } = await debianAppliance()
    const publisher = await Peer.start()
    const first = await publisher.json(['publish', v1, 'grid@v1'])
    expect(first.newBlocks).toBeGreaterThan(5_000)
    expect(first.newBlocks).toBeLessThanOrEqual(first.blocks - first.zeroBlocks)
    const before = await poolBytes(publisher)

    const second = await publisher.json(['publish', v2, 'grid@v2'])
    expect(second.blocks).toBe(24_576)
    // Measured: 1,320 to 1,400, depending on what Debian's mirror holds that day.
    expect(second.newBlocks).toBeGreaterThan(800)
    expect(second.newBlocks).toBeLessThan(2_500)
    const { pool } = await publisher.json(['status'])
    expect(pool.blocks).toBe(first.newBlocks + second.newBlocks)
    expect(pool.bytes - before).toBe(second.newBlocks * BLOCK_BYTES)
  })
})

async function poolBytes(peer: Peer): Promise<number> {
  return (await peer.json(['status'])).pool.bytes
}

test('what is kept whole for others can be taken back: it may make room then, and is announced no more', async () => {
  const folder = await temporaryFolder()
  await makeTinyAppliance(join(folder, 'v1.raw'), { version: 'v1' })
  const publisher = await Peer.start()
  const volunteer = await Peer.start({ bootstrap: [publisher] })
  const grid = `${publisher.publisher}/grid`
  await publisher.json(['publish', join(folder, 'v1.raw'), 'grid@v1'])

  expect((await volunteer.json(['replicate', grid, '--wait'])).complete).toBe(true)
  const before = await volunteer.json(['status'])
  expect(before.pool.pinnedBytes).toBe(before.pool.bytes)
  await waitUntil('two replicas', async () => (await publisher.json(['releases', 'grid']))[0]!.replicas === 2)

  const wrong = await volunteer.run(['replicate', `${grid}@v2`, '--end'])
  expect(wrong.stderr).toContain('[NOT_REPLICATED]')
  expect(await volunteer.json(['replicate', grid, '--end'])).toMatchObject({
    appliance: grid,
    ended: [{ version: 'v1' }]
  })
  const after = await volunteer.json(['status'])
  expect(after.pool).toMatchObject({ bytes: before.pool.bytes, pinnedBytes: 0 })
  await waitUntil('one replica', async () => (await publisher.json(['releases', 'grid']))[0]!.replicas === 1)
})
