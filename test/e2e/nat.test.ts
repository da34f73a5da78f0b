/**
 * Volunteers behind routers, in namespaces with the kernel's own address translation: they fetch, and they serve those that they have
 * never called.
 */
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { CALLS_PER_CALLER_PER_MINUTE } from '../../src/node/relay-client.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { type InternetHost, TestInternet } from '../tools/internet.ts'
import type { Through } from '../tools/lan.ts'
import { needTools } from '../tools/need.ts'
import { errorCode, Peer } from '../tools/peers.ts'
import { endProcesses, type RunningProcess, start } from '../tools/processes.ts'
import { waitUntil } from '../tools/wait.ts'

const ROUTER = join(import.meta.dirname, '../tools/home-router.ts')
const RUDE_CALLER = join(import.meta.dirname, '../tools/rude-caller.ts')
const MIB = 1024 * 1024
const TIMEOUT_MS = 60_000

afterEach(async () => {
  await endProcesses()
  await removeFolders()
})

async function makeImage(bytes = 4 * MIB): Promise<string> {
  const image = join(await temporaryFolder(), 'disk.raw')
  await writeFile(image, randomBytes(bytes))
  return image
}

/** A peer with a public address that it names, and keeps when it comes back. */
const open = ({ through, address }: InternetHost, bootstrap: Peer[] = [], config = '') =>
  Peer.start({ through, listen: `/ip4/${address}/tcp/4601`, bootstrap, config })

/** A peer that listens as one does by default, wherever it is. */
const ordinary = ({ through }: InternetHost, bootstrap: Peer[], config = '') =>
  Peer.start({ through, listen: '/ip4/0.0.0.0/tcp/0', bootstrap, config })

/** Waits until others can call this peer through so many relays, and says which. */
async function relaysOf(peer: Peer, count: number): Promise<string[]> {
  return await waitUntil(
    `places at ${count} relays`,
    async () => {
      const { how, relays } = (await peer.json(['status'])).reachability
      return how === 'relay' && relays.length === count ? relays : undefined
    },
    { timeoutMs: TIMEOUT_MS, details: () => peer.process.tail(40) }
  )
}

async function knownReplicas(peer: Peer, appliance: string, count: number): Promise<void> {
  await waitUntil(
    `${count} announced replicas`,
    async () => (await peer.json(['releases', appliance]))[0]?.replicas === count,
    { timeoutMs: TIMEOUT_MS, details: () => peer.process.tail() }
  )
}

/** Says when somebody comes to port 7777 of a host, at any of its addresses. */
async function door([file, ...args]: Through): Promise<RunningProcess> {
  const script =
    "require('net').createServer(s => { console.log('knock'); s.destroy() }).listen(7777, () => console.log('ready'))"
  const process = start(file!, [...args, 'node', '-e', script], { name: 'a door' })
  await process.waitForOutput(/^ready$/m, { timeoutMs: TIMEOUT_MS })
  return process
}

needTools(['unshare', 'nsenter', 'ip', 'nft'])('behind a router', () => {
  test('a volunteer fetches, and serves one that can be dialled when the publisher is gone', async () => {
    const net = await TestInternet.create()
    const publisher = await open(await net.host())
    const relay = await open(await net.host(), [publisher])
    await relay.joined()
    await publisher.json(['publish', await makeImage(), 'grid@v1'])
    const appliance = `${publisher.publisher}/grid`

    const volunteer = await ordinary((await net.home()).host, [publisher, relay])
    expect((await volunteer.json(['replicate', `${appliance}@v1`, '--wait'])).complete).toBe(true)
    expect((await relaysOf(volunteer, 2)).toSorted()).toEqual([publisher.id, relay.id].toSorted())
    const { addresses, reachability } = await volunteer.json(['status'])
    expect(addresses.filter(address => address.includes('/p2p-circuit'))).toHaveLength(2)
    expect(reachability.sentence).toContain('and calls back')
    await knownReplicas(relay, appliance, 2)
    await publisher.kill()

    // The DHT does not name it, and it is no relay, so the volunteer dials it for its call alone.
    const config = '[directory]\nserve = "never"\n[relay]\nreservations = 0\n'
    const fetcher = await ordinary(await net.host(), [relay], config)
    await fetcher.joined()
    expect((await fetcher.json(['replicate', `${appliance}@v1`, '--wait'])).complete).toBe(true)
    const { exchanging, addresses: own } = await fetcher.json(['status'])
    expect(exchanging.map(({ peer }) => peer)).toEqual([volunteer.id])
    // The volunteer called it at an address that it did not name: others have found out that it works.
    expect(own[0]).toMatch(/^\/ip4\/5\d\.1\.0\.1\/tcp/)
    expect(relay.log).not.toContain('warn')
  })

  test('a volunteer whose relay dies finds another', async () => {
    const net = await TestInternet.create()
    const first = await open(await net.host())
    const others = [await open(await net.host(), [first]), await open(await net.host(), [first])]
    const all = [first, ...others]
    const volunteer = await ordinary((await net.home()).host, all)
    const [victim, survivor] = await relaysOf(volunteer, 2)
    await all.find(({ id }) => id === victim)!.kill()
    const third = all.find(({ id }) => id !== victim && id !== survivor)!
    await waitUntil('the third relay to be used', async () => (await relaysOf(volunteer, 2)).includes(third.id), {
      timeoutMs: TIMEOUT_MS,
      details: () => volunteer.process.tail(40)
    })
    const { addresses } = await volunteer.json(['status'])
    expect(addresses.some(address => address.includes(victim!))).toBe(false)
  })

  test('two volunteers behind routers exchange blocks through a relay that carries them, and through no other', async () => {
    const net = await TestInternet.create()
    const config = '[relay]\nblocks = true\nmaxCircuit = "2MiB"\nmaxRate = "40Mbit"\n'
    const [here, publisher] = [await net.host(), await open(await net.host())]
    const relay = await open(here, [publisher])
    await relay.joined()
    await publisher.json(['publish', await makeImage(), 'grid@v1'])
    const appliance = `${publisher.publisher}/grid`
    const volunteer = await ordinary((await net.home()).host, [publisher, relay])
    await volunteer.json(['replicate', `${appliance}@v1`, '--wait'])
    await relaysOf(volunteer, 2)
    await knownReplicas(relay, appliance, 2)
    await publisher.kill()

    const fetcher = await ordinary((await net.home()).host, [relay])
    await fetcher.joined()
    const refused = await fetcher.run(['replicate', `${appliance}@v1`, '--wait'])
    expect(refused.stderr).toContain('through a relay, which carries no blocks')
    expect(errorCode(refused)).toBe('NO_REPLICA')
    expect((await fetcher.json(['status'])).pool.blocks).toBe(0)

    await relay.stop()
    await writeFile(join(relay.home, 'config.toml'), config, { mode: 0o600 })
    await relay.up()
    expect(await relaysOf(volunteer, 1)).toEqual([relay.id])
    expect((await fetcher.json(['replicate', `${appliance}@v1`, '--wait'])).complete).toBe(true)
    const { exchanging, pool } = await fetcher.json(['status'])
    expect([exchanging[0]!.peer, pool.blocks]).toEqual([volunteer.id, 64])
    const { relayedBytes } = (await relay.json(['status'])).reachability
    expect(relayedBytes).toBeGreaterThan(4 * MIB)
    expect(relayedBytes).toBeLessThan(6 * MIB)
  })

  test('a volunteer whose router gives ports away is dialled like any other, and gives the port back', async () => {
    const net = await TestInternet.create()
    const publisher = await open(await net.host())
    const { host, router } = await net.home()
    const [file, ...args] = [...router.through, 'node', ROUTER, router.inside, router.address]
    const program = start(file!, args, { name: 'a home router' })
    await program.waitForOutput(/^ready$/m, { timeoutMs: TIMEOUT_MS })
    const volunteer = await ordinary(host, [publisher])
    await waitUntil(
      'somebody to dial the volunteer',
      async () => (await volunteer.json(['status'])).reachability.how === 'direct',
      { timeoutMs: TIMEOUT_MS, details: () => volunteer.process.tail(40) + program.tail() }
    )
    const [line] = program.stdout.match(/^\{.*AddPortMapping.*\}$/m)!
    const { port, lease, ports } = JSON.parse(line)
    expect(ports[port].split(':')[0]).toBe(host.address)
    expect(Number(lease)).toBeGreaterThan(0)
    const mapped = `/ip4/${router.address}/tcp/${port}/p2p/${volunteer.id}`
    await waitUntil(
      'the mapped address to be announced',
      async () => (await volunteer.json(['status'])).addresses[0] === mapped,
      {
        timeoutMs: TIMEOUT_MS,
        details: () => volunteer.process.tail(40)
      }
    )
    const other = await Peer.start({
      through: (await net.host()).through,
      listen: false,
      args: ['--bootstrap', mapped]
    })
    await other.joined()
    await volunteer.stop()
    expect(JSON.parse(program.stdout.trim().split('\n').at(-1)!)).toMatchObject({
      action: 'DeletePortMapping',
      ports: {}
    })
  })

  test('a caller who claims to be at a private door does not have the volunteer knock there', async () => {
    const net = await TestInternet.create()
    const relay = await open(await net.host())
    const { host, router } = await net.home()
    const volunteer = await ordinary(host, [relay])
    await relaysOf(volunteer, 1)
    const circuit = (await volunteer.json(['status'])).addresses.find(address => address.includes('/p2p-circuit'))!
    const doors = await Promise.all([host.through, router.through].map(through => door(through)))
    const [file, ...args] = [...(await net.host()).through, 'node', RUDE_CALLER, circuit, '1']
    const claims = ['/dns4/localhost', '/ip4/127.0.0.1', `/ip4/${router.inside}`].map(name => `${name}/tcp/7777`)
    // The last is one that the volunteer does call: it shows that it has come to that.
    const elsewhere = await net.host()
    const bait = await door(elsewhere.through)
    const caller = start(file!, [...args, ...claims, `/ip4/${elsewhere.address}/tcp/7777`], { name: 'a rude caller' })
    await caller.waitForOutput(/^speaks .*\/libp2p\/dcutr/m, { timeoutMs: TIMEOUT_MS })
    await bait.waitForOutput(/^knock$/m, { timeoutMs: TIMEOUT_MS })
    await volunteer.stop()
    expect(doors.map(({ stdout }) => stdout.includes('knock'))).toEqual([false, false])
  })

  test('a volunteer is called through relays so many times a minute by one', async () => {
    const net = await TestInternet.create()
    const relay = await open(await net.host())
    const volunteer = await ordinary((await net.home()).host, [relay])
    await relaysOf(volunteer, 1)
    const circuit = (await volunteer.json(['status'])).addresses.find(address => address.includes('/p2p-circuit'))!
    const startMs = performance.now()
    const calls = String(4 * CALLS_PER_CALLER_PER_MINUTE)
    const [file, ...args] = [...(await net.host()).through, 'node', RUDE_CALLER, circuit, calls]
    const caller = start(file!, args, { name: 'a rude caller' })
    const [, answered] = await caller.waitForOutput(/^answered (\d+)$/m, { timeoutMs: 2 * TIMEOUT_MS })
    const minutes = (performance.now() - startMs) / 60_000
    expect(Number(answered)).toBeGreaterThan(CALLS_PER_CALLER_PER_MINUTE / 2)
    expect(Number(answered)).toBeLessThanOrEqual(CALLS_PER_CALLER_PER_MINUTE * (1 + minutes))
    expect((await relay.json(['status'])).reachability.relayedPeers).toBe(1)
  })

  test('one that shall not be called through others asks no relay', async () => {
    const net = await TestInternet.create()
    const publisher = await open(await net.host())
    const config = '[network]\nrelays = "off"\n'
    const { host } = await net.home()
    const through = { through: host.through, listen: '/ip4/0.0.0.0/tcp/0', bootstrap: [publisher] }
    const [silent, other] = await Promise.all([
      Peer.start({ ...through, config }),
      ordinary((await net.home()).host, [publisher])
    ])
    await relaysOf(other!, 1)
    expect((await silent!.json(['status'])).reachability).toMatchObject({ how: 'none', relays: [] })
    expect((await publisher.json(['status'])).reachability.relayedPeers).toBe(1)
  })
})
