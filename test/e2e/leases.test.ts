/**
 * Who uses a version, as `rowan releases` tells it: machines that come, go, die and come back.
 */
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { Peer } from '../tools/peers.ts'
import { endProcesses } from '../tools/processes.ts'
import { makeTinyAppliance } from '../tools/tiny-appliance.ts'
import { waitUntil } from '../tools/wait.ts'

const SHARER_TTL_MS = 4_000
/** Longer than any test waits: what goes before it was given back. */
const LONG_TTL_MS = 600_000
const configOf = (sharerTtlMs: number) => `[directory]\nsharerTtl = "${sharerTtlMs}ms"\nkeepTtl = "${LONG_TTL_MS}ms"\n`
const config = configOf(SHARER_TTL_MS)

afterEach(async () => {
  await endProcesses()
  await removeFolders()
})

async function sharersOf(peer: Peer, appliance: string, version: string) {
  const rows = await peer.json(['releases', appliance])
  return rows.find(row => row.version === version)!.sharers
}

async function counted(peer: Peer, appliance: string, version: string, count: number | null) {
  let last: unknown
  await waitUntil(
    `${count} sharers of ${version}`,
    async () => {
      last = await sharersOf(peer, appliance, version)
      return JSON.stringify(last) === JSON.stringify({ count, exact: count !== null })
    },
    { details: () => `${JSON.stringify(last)}\n${peer.log.slice(-2000)}` }
  )
}

test('machines are counted while they are attached or have layers, and no longer', async () => {
  const folder = await temporaryFolder()
  const image = join(folder, 'v1.raw')
  await makeTinyAppliance(image, { version: 'v1' })
  const publisher = await Peer.start({ config })
  await publisher.json(['publish', image, 'grid@v1'])
  const grid = `${publisher.publisher}/grid`
  const [one, two] = await Promise.all([
    Peer.start({ config, bootstrap: [publisher] }),
    Peer.start({ config: configOf(LONG_TTL_MS), bootstrap: [publisher] })
  ])
  expect(await sharersOf(publisher, grid, 'v1')).toEqual({ count: 0, exact: true })

  // A second machine of the same peer is no second sharer.
  await one.json(['attach', grid, '--as', 'm'])
  await one.json(['attach', grid, '--as', 'm2', '--read-only'])
  await two.json(['attach', grid, '--as', 'm', '--read-only'])
  await counted(publisher, grid, 'v1', 2)
  expect(await sharersOf(two, grid, 'v1')).toEqual({ count: 2, exact: true })

  // What was never written to is given back at once, what has layers stays in use.
  await two.json(['detach', 'm'])
  await counted(publisher, grid, 'v1', 1)
  await one.json(['detach', 'm'])
  await one.json(['detach', 'm2'])
  const started = performance.now()
  while (performance.now() - started < 1.5 * SHARER_TTL_MS) {
    expect(await sharersOf(publisher, grid, 'v1')).toEqual({ count: 1, exact: true })
  }

  // A restart changes nothing.
  await one.stop()
  await one.up()
  await one.joined()
  await counted(publisher, grid, 'v1', 1)
  await one.json(['remove', 'm', '--yes'])
  await counted(publisher, grid, 'v1', 0)

  // After a crash it is gone by itself, and there again when the daemon is.
  await two.stop()
  await writeFile(join(two.home, 'config.toml'), config)
  await two.up()
  await two.json(['attach', grid, '--as', 'm', '--read-only'])
  await counted(publisher, grid, 'v1', 1)
  await two.kill()
  await sleep(SHARER_TTL_MS)
  expect(await sharersOf(publisher, grid, 'v1')).toEqual({ count: 0, exact: true })
  await two.up()
  await counted(publisher, grid, 'v1', 1)

  const text = await publisher.run(['releases', 'grid'])
  expect(text.stdout).toMatch(/SHARERS/)
  await checkPseudonyms(two)
})

/** The secret is for its owner only, and not the peer's key. */
async function checkPseudonyms(peer: Peer): Promise<void> {
  const keys = join(peer.home, 'keys')
  expect(await readdir(keys)).toContain('sharer.key')
  expect((await stat(join(keys, 'sharer.key'))).mode & 0o777).toBe(0o600)
  const secret = await readFile(join(keys, 'sharer.key'), 'utf8')
  expect(secret).toMatch(/^rowan-sharer-key 1 /)
  expect(secret.split(' ')[2]).not.toBe((await readFile(join(keys, 'peer.key'), 'utf8')).split(' ')[2])
}

test('the count outlives all holders but a majority, and is not made up without one', async () => {
  const folder = await temporaryFolder()
  const image = join(folder, 'v1.raw')
  await makeTinyAppliance(image, { version: 'v1' })
  const publisher = await Peer.start({ config })
  await publisher.json(['publish', image, 'grid@v1'])
  const grid = `${publisher.publisher}/grid`
  const others: Peer[] = []
  for (let i = 0; i < 4; i++) others.push(await Peer.start({ config, bootstrap: [publisher] }))
  const [sharer, ...rest] = others as [Peer, ...Peer[]]
  await publisher.joined(4)
  for (const peer of others) await peer.joined()
  await sharer.json(['attach', grid, '--as', 'm', '--read-only'])
  await counted(publisher, grid, 'v1', 1)

  // Three of five are a majority, two are not; the sharer is one of them all the time.
  await rest[0]!.kill()
  await rest[1]!.kill()
  const started = performance.now()
  while (performance.now() - started < 2 * SHARER_TTL_MS) {
    expect(await sharersOf(publisher, grid, 'v1')).toEqual({ count: 1, exact: true })
  }
  await rest[2]!.kill()
  await counted(publisher, grid, 'v1', null)
})
