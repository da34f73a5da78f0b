import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { Gateway } from '../../../src/node/gateway.ts'
import { locationOf } from '../../../src/node/gateway-search.ts'

const SERVICE = 'urn:schemas-upnp-org:service:WANIPConnection:2'
const describing = (control: string, type = SERVICE) =>
  `<root><service><serviceType>${type}</serviceType><controlURL>${control}</controlURL></service></root>`

let server: Server | undefined

/** Longer than any wait for a router. */
const wait = () => ({ signal: AbortSignal.timeout(30_000) })

afterEach(() => {
  server?.closeAllConnections()
  server?.close()
})

/** @returns where its description is */
async function serve(listener: RequestListener): Promise<URL> {
  server = createServer(listener)
  await new Promise<void>(resolve => server!.listen(0, '127.0.0.1', resolve))
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/d.xml`)
}

describe('what answers the search for a router', () => {
  const answer = (location: string, target = 'urn:schemas-upnp-org:device:InternetGatewayDevice:1') =>
    Buffer.from(`HTTP/1.1 200 OK\r\nST: ${target}\r\nLocation: ${location}\r\n\r\n`)

  test('is called at its own address', () => {
    const location = 'http://192.168.1.1:5000/d.xml'
    expect(locationOf(answer(location), '192.168.1.1')?.href).toBe(location)
  })

  test.each([
    ['at somebody else’s', 'http://192.168.1.9:631/d.xml', '192.168.1.1'],
    ['on this host', 'http://127.0.0.1:6379/d.xml', '127.0.0.1'],
    ['on this host, by its name', 'http://localhost:6379/d.xml', '192.168.1.1'],
    ['in the Internet', 'http://9.9.9.9/d.xml', '9.9.9.9'],
    ['over anything but HTTP', 'ftp://192.168.1.1/d.xml', '192.168.1.1'],
    ['nowhere', 'nonsense', '192.168.1.1']
  ])('is not called %s', (_where, location, sender) => {
    expect(locationOf(answer(location), sender)).toBeUndefined()
  })

  test('must be an answer, of a router, and of a size', () => {
    const location = 'http://192.168.1.1/d.xml'
    expect(locationOf(answer(location, 'upnp:rootdevice'), '192.168.1.1')).toBeUndefined()
    expect(locationOf(Buffer.from('NOTIFY * HTTP/1.1\r\n\r\n'), '192.168.1.1')).toBeUndefined()
    expect(locationOf(answer(`${location}?${'x'.repeat(4096)}`), '192.168.1.1')).toBeUndefined()
  })
})

describe('a router', () => {
  test('takes orders at the path that it describes', async () => {
    const orders: string[] = []
    const location = await serve((request, response) => {
      if (request.method === 'GET') return response.end(describing('/control'))
      orders.push(`${request.url} ${request.headers.soapaction}`)
      response.end('<s:Envelope><u:GetExternalIPAddressResponse><NewExternalIPAddress>9.9.9.1</NewExternalIPAddress>')
    })
    const gateway = await Gateway.open(location, wait())
    expect(await gateway.externalAddress(wait())).toBe('9.9.9.1')
    expect(orders).toEqual([`/control "${SERVICE}#GetExternalIPAddress"`])
  })

  test('says that a port is another’s, or why it refuses', async () => {
    let fault = 718
    const location = await serve((request, response) => {
      if (request.method === 'GET') return response.end(describing('/control'))
      response.statusCode = 500
      response.end(`<s:Fault><detail><UPnPError><errorCode>${fault}</errorCode></UPnPError></detail></s:Fault>`)
    })
    const gateway = await Gateway.open(location, wait())
    const mapping = { host: '192.168.1.2', port: 4601, externalPort: 4601, leaseSeconds: 3600 }
    expect(await gateway.map(mapping, wait())).toBe(false)
    fault = 725
    await expect(gateway.map(mapping, wait())).rejects.toMatchObject({ code: 'GATEWAY_REFUSED' })
    await expect(gateway.unmap(4601, wait())).rejects.toThrow('DeletePortMapping: fault 725')
  })

  test.each([
    ['names another host to be called', describing('http://192.168.1.9:631/print')],
    ['names this host by another name', describing('http://localhost:6379/')],
    ['gives no ports away', describing('/control', 'urn:schemas-upnp-org:service:Layer3Forwarding:1')],
    ['names a path that is none', describing('http://[')],
    ['says nothing', ''],
    ['does not stop talking', 'x'.repeat(1024 * 1024)]
  ])('that %s is none', async (_what, body) => {
    const location = await serve((_request, response) => response.end(body))
    await expect(Gateway.open(location, wait())).rejects.toMatchObject({ code: 'GATEWAY_REFUSED' })
  })

  test('that leads elsewhere is not followed', async () => {
    let calls = 0
    const location = await serve((request, response) => {
      calls++
      if (request.url === '/d.xml') response.writeHead(302, { location: '/other.xml' }).end()
      else response.end(describing('/control'))
    })
    await expect(Gateway.open(location, wait())).rejects.toMatchObject({ code: 'GATEWAY_REFUSED' })
    expect(calls).toBe(1)
  })

  test('that is silent is waited for, for a while', async () => {
    const location = await serve(() => undefined)
    await expect(Gateway.open(location, wait())).rejects.toMatchObject({ code: 'TIMEOUT_RESPONSE' })
  })
})
