/**
 * Keeping a port of the router, with a router that really is asked over HTTP; the search is test/e2e/nat.test.ts.
 */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, expect, test } from 'vitest'
import type { AddressManager } from '../../../src/node/library-parts.ts'
import { PortMapping } from '../../../src/node/port-mapping.ts'
import { waitUntil } from '../../tools/wait.ts'
import { ManualClock } from '../release/support/clock.ts'
import { recordingLog } from '../swarm/support.ts'

const SERVICE = 'urn:schemas-upnp-org:service:WANIPConnection:1'
const HOME = '192.168.1.2'
const RENEWAL_MS = 30 * 60_000

/** A router; what it does is changed by the test. */
class TestRouter {
  readonly ports = new Map<string, string>()
  readonly asked: string[] = []
  external = '9.9.9.1'
  isSilent = false
  unanswered = 0
  readonly #server: Server

  constructor() {
    this.#server = createServer((request, response) => {
      if (this.isSilent) {
        this.unanswered++
        return
      }
      if (request.method === 'GET')
        return response.end(`<service><serviceType>${SERVICE}</serviceType><controlURL>/c</controlURL></service>`)
      let order = ''
      request.on('data', part => {
        order += part
      })
      request.on('end', () => {
        const fault = this.#obey(order)
        response.statusCode = fault === undefined ? 200 : 500
        const address = `<NewExternalIPAddress>${this.external}</NewExternalIPAddress>`
        response.end(fault === undefined ? address : `<errorCode>${fault}</errorCode>`)
      })
    })
  }

  #obey(order: string): number | undefined {
    const field = (name: string) => new RegExp(`<${name}>([^<]*)<`).exec(order)?.[1] ?? ''
    const action = /<u:(\w+)/.exec(order)![1]!
    this.asked.push(action)
    const port = field('NewExternalPort')
    if (action === 'DeletePortMapping') return this.ports.delete(port) ? undefined : 714
    if (action !== 'AddPortMapping') return undefined
    const target = `${field('NewInternalClient')}:${field('NewInternalPort')}`
    if ((this.ports.get(port) ?? target) !== target) return 718
    this.ports.set(port, target)
    return undefined
  }

  async listen(): Promise<URL> {
    await new Promise<void>(resolve => this.#server.listen(0, '127.0.0.1', resolve))
    return new URL(`http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/d.xml`)
  }

  close(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }
}

let router: TestRouter

afterEach(() => router.close())

async function setUp(prepare: (router: TestRouter) => void = () => undefined) {
  router = new TestRouter()
  prepare(router)
  const location = await router.listen()
  const clock = new ManualClock()
  const { log, lines } = recordingLog()
  const mapped: string[] = []
  const searched: string[] = []
  const address = (text: string): ReturnType<AddressManager['getAddressesWithMetadata']>[number] => ({
    ...{ multiaddr: multiaddr(text), verified: true, expires: 0, type: 'transport' }
  })
  const local = ['/ip4/127.0.0.1/tcp/4601', `/ip4/${HOME}/tcp/4601`, '/ip4/9.9.9.9/tcp/4601', '/ip6/::1/tcp/4601']
  let lost = 0
  const addresses = {
    getAddressesWithMetadata: () => local.map(address),
    addPublicAddressMapping: (...[, , host, port]: [string, number, string, number?]) =>
      void mapped.push(`${host}:${port}`),
    removePublicAddressMapping: (...[, , host, port]: [string, number, string, number?]) =>
      void mapped.splice(mapped.indexOf(`${host}:${port}`), 1)
  }
  const mapping = new PortMapping({
    ...{ addresses, clock, log, promised: () => undefined, lost: () => void lost++ },
    random: { unit: () => 0.5, bytes: count => new Uint8Array(count) },
    search: async from => {
      searched.push(from)
      return [location]
    }
  })
  /** Waits until the round that has begun is over: the next one is planned. */
  const round = () => waitUntil('the end of a round', () => clock.waiting === 1)
  mapping.start()
  await round()
  return { mapping, mapped, searched, clock, lines, round, local, lost: () => lost }
}

test('a port is asked for where this peer listens at home, renewed, and given back', async () => {
  const { mapping, mapped, searched, clock, round } = await setUp()
  expect([...router.ports]).toEqual([['4601', `${HOME}:4601`]])
  expect([mapped, searched]).toEqual([['9.9.9.1:4601'], [HOME]])
  clock.advance(RENEWAL_MS)
  await round()
  expect(router.asked.filter(action => action === 'AddPortMapping')).toHaveLength(2)
  expect(searched).toHaveLength(1)
  await mapping.stop()
  expect([router.ports.size, mapped.length]).toEqual([0, 0])
})

test('a port that is another’s is left to it', async () => {
  const { mapping, mapped } = await setUp(each => each.ports.set('4601', '192.168.1.9:22'))
  expect(mapped).toEqual(['9.9.9.1:57344'])
  await mapping.stop()
  expect([...router.ports]).toEqual([['4601', '192.168.1.9:22']])
})

test('behind two routers none is asked for', async () => {
  const { mapping, mapped } = await setUp(each => {
    each.external = '100.64.1.1'
  })
  expect([mapped, router.ports.size]).toEqual([[], 0])
  await mapping.stop()
})

test('when the router has another address, the old one is announced no more', async () => {
  const { mapping, mapped, clock, round, lost } = await setUp()
  router.external = '8.8.4.4'
  clock.advance(RENEWAL_MS)
  await round()
  expect([mapped, lost()]).toEqual([['8.8.4.4:4601'], 1])
  await mapping.stop()
})

test('when this host has another address, the port leads there, and to the old one no more', async () => {
  const { mapping, mapped, round, local, lost } = await setUp()
  local[1] = '/ip4/192.168.1.7/tcp/4601'
  mapping.start()
  await round()
  expect([...router.ports]).toEqual([['4601', '192.168.1.7:4601']])
  expect([mapped, lost()]).toEqual([['9.9.9.1:4601'], 1])
  local.splice(1, 1)
  mapping.start()
  await round()
  expect([router.ports.size, mapped, lost()]).toEqual([0, [], 2])
  await mapping.stop()
})

test('a router that has fallen silent does not keep this peer from stopping', async () => {
  const { mapping, clock, lines, lost } = await setUp()
  router.isSilent = true
  const stopped = mapping.stop()
  await waitUntil('the wait for the router', () => clock.waiting === 1)
  clock.advance(3_000)
  await stopped
  expect(lines.some(({ message }) => message.includes('given a port'))).toBe(true)
  expect(lost()).toBe(0)
})

test('one that falls silent in the middle of a round does not either', async () => {
  const { mapping, clock } = await setUp()
  router.isSilent = true
  clock.advance(RENEWAL_MS)
  await waitUntil('the question', () => router.unanswered > 0)
  const stopped = mapping.stop()
  // Sooner than the wait for one answer ends by itself.
  await waitUntil('the attempt to give the port back', () => router.unanswered === 2, { timeoutMs: 3_000 })
  clock.advance(3_000)
  await stopped
})
