#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#define E(n) __attribute__((export_name(#n)))
static const uint32_t K[64]={0x428a2f98,0x71374491,0xb5c0fbcf,0xe9b5dba5,0x3956c25b,0x59f111f1,0x923f82a4,0xab1c5ed5,0xd807aa98,0x12835b01,0x243185be,0x550c7dc3,0x72be5d74,0x80deb1fe,0x9bdc06a7,0xc19bf174,0xe49b69c1,0xefbe4786,0x0fc19dc6,0x240ca1cc,0x2de92c6f,0x4a7484aa,0x5cb0a9dc,0x76f988da,0x983e5152,0xa831c66d,0xb00327c8,0xbf597fc7,0xc6e00bf3,0xd5a79147,0x06ca6351,0x14292967,0x27b70a85,0x2e1b2138,0x4d2c6dfc,0x53380d13,0x650a7354,0x766a0abb,0x81c2c92e,0x92722c85,0xa2bfe8a1,0xa81a664b,0xc24b8b70,0xc76c51a3,0xd192e819,0xd6990624,0xf40e3585,0x106aa070,0x19a4c116,0x1e376c08,0x2748774c,0x34b0bcb5,0x391c0cb3,0x4ed8aa4a,0x5b9cca4f,0x682e6ff3,0x748f82ee,0x78a5636f,0x84c87814,0x8cc70208,0x90befffa,0xa4506ceb,0xbef9a3f7,0xc67178f2};
#define R(x,n) (((x)>>(n))|((x)<<(32-(n))))
static void blk(uint32_t *h,const uint8_t*p){uint32_t w[64];for(int i=0;i<16;i++)w[i]=p[4*i]<<24|p[4*i+1]<<16|p[4*i+2]<<8|p[4*i+3];
for(int i=16;i<64;i++){uint32_t a=R(w[i-15],7)^R(w[i-15],18)^(w[i-15]>>3),b=R(w[i-2],17)^R(w[i-2],19)^(w[i-2]>>10);w[i]=w[i-16]+a+w[i-7]+b;}
uint32_t a=h[0],b=h[1],c=h[2],d=h[3],e=h[4],f=h[5],g=h[6],q=h[7];
for(int i=0;i<64;i++){uint32_t t1=q+(R(e,6)^R(e,11)^R(e,25))+((e&f)^(~e&g))+K[i]+w[i];uint32_t t2=(R(a,2)^R(a,13)^R(a,22))+((a&b)^(a&c)^(b&c));q=g;g=f;f=e;e=d+t1;d=c;c=b;b=a;a=t1+t2;}
h[0]+=a;h[1]+=b;h[2]+=c;h[3]+=d;h[4]+=e;h[5]+=f;h[6]+=g;h[7]+=q;}
static uint8_t buf[1<<16];
static uint32_t rnd(uint32_t*s){*s^=*s<<13;*s^=*s>>17;*s^=*s<<5;return *s;}
E(sha) uint32_t sha(uint32_t n){uint32_t h[8]={0x6a09e667,0xbb67ae85,0x3c6ef372,0xa54ff53a,0x510e527f,0x9b05688c,0x1f83d9ab,0x5be0cd19};for(uint32_t i=0;i<n;i++)blk(h,buf+(i*64&0xffc0));return h[0];}
#define N 160
static double A[N*N],B[N*N],C[N*N]; static int32_t IA[N*N],IB[N*N],IC[N*N]; static float FA[N*N],FB[N*N],FC[N*N];
E(matf64) double matf(uint32_t n){double t=0;for(uint32_t r=0;r<n;r++){for(int i=0;i<N*N;i++){A[i]=(i%7)*0.5+r;B[i]=(i%11)*0.25;}
for(int i=0;i<N;i++)for(int j=0;j<N;j++){double s=0;for(int k=0;k<N;k++)s+=A[i*N+k]*B[k*N+j];C[i*N+j]=s;}t+=C[r%(N*N)];}return t;}
E(matf32) float matf32(uint32_t n){float t=0;for(uint32_t r=0;r<n;r++){for(int i=0;i<N*N;i++){FA[i]=(i%7)*0.5f+r;FB[i]=(i%11)*0.25f;}
for(int i=0;i<N;i++)for(int k=0;k<N;k++){float a=FA[i*N+k];for(int j=0;j<N;j++)FC[i*N+j]+=a*FB[k*N+j];}t+=FC[r%(N*N)];}return t;}
E(mati32) uint32_t mati(uint32_t n){uint32_t t=0;for(uint32_t r=0;r<n;r++){for(int i=0;i<N*N;i++){IA[i]=(i%7)+r;IB[i]=(i%11);}
for(int i=0;i<N;i++)for(int j=0;j<N;j++){int32_t s=0;for(int k=0;k<N;k++)s+=IA[i*N+k]*IB[k*N+j];IC[i*N+j]=s;}t+=IC[r%(N*N)];}return t;}
static uint32_t S[1<<16];
static void qs(uint32_t*a,int lo,int hi){while(lo<hi){uint32_t p=a[(lo+hi)/2];int i=lo,j=hi;while(i<=j){while(a[i]<p)i++;while(a[j]>p)j--;if(i<=j){uint32_t t=a[i];a[i]=a[j];a[j]=t;i++;j--;}}if(j-lo<hi-i){qs(a,lo,j);lo=i;}else{qs(a,i,hi);hi=j;}}}
E(sort) uint32_t sort(uint32_t n){uint32_t s=1,t=0;for(uint32_t r=0;r<n;r++){for(int i=0;i<1<<16;i++)S[i]=rnd(&s);qs(S,0,(1<<16)-1);t+=S[r];}return t;}
static int cmp(const void*a,const void*b){uint32_t x=*(uint32_t*)a,y=*(uint32_t*)b;return x<y?-1:x>y;}
E(qsortlib) uint32_t qsl(uint32_t n){uint32_t s=1,t=0;for(uint32_t r=0;r<n;r++){for(int i=0;i<1<<14;i++)S[i]=rnd(&s);qsort(S,1<<14,4,cmp);t+=S[r];}return t;}
uint32_t fibr(uint32_t n){return n<2?n:fibr(n-1)+fibr(n-2);}
E(fib) uint32_t fib(uint32_t n){return fibr(n);}
E(sieve) uint32_t sieve(uint32_t n){static uint8_t f[1<<20];uint32_t c=0;for(uint32_t r=0;r<n;r++){memset(f,0,sizeof f);for(uint32_t i=2;i<1<<20;i++)if(!f[i]){c++;for(uint32_t j=i*2;j<1<<20;j+=i)f[j]=1;}}return c;}
E(nbody) double nbody(uint32_t n){double x=1,y=0,vx=0,vy=1;for(uint32_t i=0;i<n;i++){double r2=x*x+y*y;double r=__builtin_sqrt(r2);double f=-1/(r2*r);vx+=f*x*0.001;vy+=f*y*0.001;x+=vx*0.001;y+=vy*0.001;}return x;}
int main(){return 0;}
