/**
 * A home router that gives ports away (UPnP IGD): a program for a router's namespace.
 *
 *     node home-router.ts INSIDE-ADDRESS OUTSIDE-ADDRESS [EXTERNAL-ADDRESS]
 *
 * Answers SSDP on the inside and takes orders over HTTP; what it promises is a rule of the kernel's own translation, so a port that is
 * given away really leads inside. Each order is a line of JSON on stdout. EXTERNAL-ADDRESS is what it says that it is outside.
 */
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { createServer, type IncomingMessage } from 'node:http'

const [inside, outside, external = outside] = process.argv.slice(2)
if (inside === undefined || external === undefined) throw new Error('usage: home-router.ts INSIDE OUTSIDE [EXTERNAL]')

const DEVICE = 'urn:schemas-upnp-org:device:InternetGatewayDevice:1'
const SERVICE = 'urn:schemas-upnp-org:service:WANIPConnection:1'
const ports = new Map<string, string>()

const description = `<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceType>${DEVICE}</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType><controlURL>/no</controlURL></service>
<service><serviceType>${SERVICE}</serviceType><controlURL>/control</controlURL></service>
</serviceList></device></deviceList></device></root>`

/** The kernel's rules, as the ports stand now. */
function translate(): void {
  execFileSync('nft', ['flush', 'chain', 'ip', 'home', 'pre'])
  for (const [port, target] of ports) {
    const rule = ['iifname', 'eth0', 'tcp', 'dport', port, 'dnat', 'to', target]
    execFileSync('nft', ['add', 'rule', 'ip', 'home', 'pre', ...rule])
  }
}

const field = (xml: string, name: string) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1] ?? ''

/** @returns what comes of an order: its answer's values, or the number of a fault */
function obey(action: string, order: string): Record<string, string> | number {
  const port = field(order, 'NewExternalPort')
  if (action === 'GetExternalIPAddress') return { NewExternalIPAddress: external! }
  if (field(order, 'NewProtocol') !== 'TCP') return 402
  if (action === 'AddPortMapping') {
    const target = `${field(order, 'NewInternalClient')}:${field(order, 'NewInternalPort')}`
    if ((ports.get(port) ?? target) !== target) return 718
    ports.set(port, target)
  } else if (action === 'DeletePortMapping') {
    if (!ports.delete(port)) return 714
  } else return 401
  translate()
  console.log(
    JSON.stringify({ action, port, lease: field(order, 'NewLeaseDuration'), ports: Object.fromEntries(ports) })
  )
  return {}
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request.setEncoding('utf8')) text += chunk
  return text
}

const server = createServer(async (request, response) => {
  response.setHeader('content-type', 'text/xml')
  if (request.url === '/description.xml') return response.end(description)
  const action = String(request.headers.soapaction).split('#')[1]?.replace('"', '') ?? ''
  const result = obey(action, await textOf(request))
  if (typeof result === 'number') {
    response.statusCode = 500
    return response.end(
      `<s:Envelope><s:Body><s:Fault><detail><UPnPError><errorCode>${result}</errorCode></UPnPError></detail></s:Fault></s:Body></s:Envelope>`
    )
  }
  const values = Object.entries(result).map(([name, value]) => `<${name}>${value}</${name}>`)
  response.end(
    `<s:Envelope><s:Body><u:${action}Response xmlns:u="${SERVICE}">${values.join('')}</u:${action}Response></s:Body></s:Envelope>`
  )
})

const ssdp = createSocket({ type: 'udp4', reuseAddr: true })
ssdp.on('message', (message, { address, port }) => {
  const target = /^ST: *(.*)$/im.exec(message.toString())?.[1]?.trim()
  if (!message.toString().startsWith('M-SEARCH') || target !== DEVICE) return
  const location = `http://${inside}:5000/description.xml`
  ssdp.send(`HTTP/1.1 200 OK\r\nST: ${DEVICE}\r\nLOCATION: ${location}\r\nUSN: uuid:1\r\n\r\n`, port, address)
})
ssdp.bind(1900, () => {
  ssdp.addMembership('239.255.255.250', inside)
  server.listen(5000, inside, () => console.log('ready'))
})
